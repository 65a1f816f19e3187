"""A request as ``/generate`` expects it, with nothing left to the server's own defaults."""

from collections.abc import Sequence

from sprint_agents.engine import Request
from sprint_agents.errors import ContextOverflow, InvalidRequest

from .model import ServedModel


def check_ids(ids: Sequence[int], model: ServedModel) -> None:
    """Refuse ids that are not of the model's vocabulary.

    Raises:
        InvalidRequest: an id is outside it.
    """
    if not ids:
        return
    low, high = min(ids), max(ids)
    if low < 0 or (model.vocabulary_size is not None and high >= model.vocabulary_size):
        wrong = low if low < 0 else high
        raise InvalidRequest(
            f"token id {wrong} is outside the vocabulary of {model.name}, which has {model.vocabulary_size} ids: "
            "encode texts with this engine"
        )


def body_of(request: Request, model: ServedModel) -> dict[str, object]:
    """Write a request as ``/generate`` expects it; nothing is left to the server's own defaults.

    Raises:
        InvalidRequest: an empty context, ids outside the vocabulary, or a negative limit.
        ContextOverflow: the context leaves no room for a token.
    """
    ids = request.context.flatten()
    if not ids:
        raise InvalidRequest("the context is empty: a model needs a token to begin with")
    if request.max_tokens < 0:
        raise InvalidRequest(f"max_tokens is {request.max_tokens}: it cannot be negative")
    check_ids(ids, model)
    check_ids(tuple(request.stop_ids), model)
    room = request.max_tokens
    if model.context_limit is not None:
        if len(ids) >= model.context_limit:
            raise ContextOverflow(tokens=len(ids), limit=model.context_limit)
        room = min(room, model.context_limit - len(ids))
    sampling = request.sampling
    parameters: dict[str, object] = {
        "max_new_tokens": room,
        "min_new_tokens": 0,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": -1 if sampling.top_k is None else sampling.top_k,
        "min_p": 0.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "repetition_penalty": 1.0,
        "n": 1,
        "ignore_eos": False,
        "stop": list(request.stop_texts),
        "stop_token_ids": sorted(request.stop_ids),
        "no_stop_trim": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "sampling_seed": sampling.seed,
    }
    if request.schema is not None:
        parameters["json_schema"] = request.schema
    return {"input_ids": ids, "sampling_params": parameters, "stream": True}
