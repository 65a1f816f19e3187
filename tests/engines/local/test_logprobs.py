"""Log-probabilities are those of the model, as transformers computes them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sprint_agents.engine import Sampling
from sprint_agents.engines.local import LocalEngine
from sprint_agents.errors import InvalidRequest
from sprint_agents.testing.contract import Completion, complete, request_of

from .conftest import VOCABULARY
from .test_engine import context_of, some_ids

pytestmark = pytest.mark.local

Make = Callable[..., LocalEngine]
PROMPT = some_ids(20)
SCHEMA = '{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false}'


def completed(make_engine: Make, checkpoint: Path, sampling: Sampling, *, schema: str | None = None) -> Completion:
    async def main() -> Completion:
        async with make_engine(checkpoint) as engine:
            request = request_of(context_of(*PROMPT), max_tokens=30, sampling=sampling)
            request.schema = schema
            return await complete(engine, request)

    return asyncio.run(main())


def distributions(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """The log-probabilities of every token at each place of a completion."""
    with torch.inference_mode():
        logits = model(torch.tensor([PROMPT + ids])).logits[0, len(PROMPT) - 1 : -1]
    return torch.log_softmax(logits.float(), -1)


@pytest.mark.parametrize("model", ["llama", "qwen3"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0, logprobs=4),
        Sampling(temperature=1.7, top_k=40, min_p=0.01, seed=3, logprobs=4),
        Sampling(temperature=0, repetition_penalty=1.5, frequency_penalty=0.5, logit_bias={40: 3.0}, logprobs=4),
    ],
    ids=["greedy", "drawn", "adjusted"],
)
def test_they_are_those_of_transformers_before_any_setting(
    model: str, sampling: Sampling, checkpoints, references, make_engine: Make
) -> None:
    completion = completed(make_engine, checkpoints[model], sampling)
    expected = distributions(references[model], completion.ids)
    for place, (token, found) in enumerate(zip(completion.ids, completion.logprobs, strict=True)):
        assert found.token == token
        assert found.logprob == pytest.approx(expected[place, token].item(), abs=1e-3)
        values, ids = expected[place].topk(4)
        assert [number for number, _ in found.top] == ids.tolist()
        assert [value for _, value in found.top] == pytest.approx(values.tolist(), abs=1e-3)


def test_those_of_a_schema_are_of_the_model_too(checkpoints, references, make_engine: Make) -> None:
    completion = completed(make_engine, checkpoints["llama"], Sampling(temperature=0, logprobs=0), schema=SCHEMA)
    assert completion.text.startswith('{"n": ')
    expected = distributions(references["llama"], completion.ids)
    found = [each.logprob for each in completion.logprobs]
    assert found == pytest.approx(
        [expected[place, token].item() for place, token in enumerate(completion.ids)], abs=1e-3
    )
    assert min(found) < -1  # what the model would hardly have written by itself


def test_a_bias_of_a_token_that_does_not_exist_is_refused(checkpoints, make_engine: Make) -> None:
    with pytest.raises(InvalidRequest, match=f"logit_bias has token id {VOCABULARY}"):
        completed(make_engine, checkpoints["llama"], Sampling(logit_bias={VOCABULARY: 1.0}))


def test_a_ban_and_a_penalty_change_what_is_written(checkpoints, make_engine: Make) -> None:
    plain = completed(make_engine, checkpoints["llama"], Sampling(temperature=0)).ids
    banned = completed(make_engine, checkpoints["llama"], Sampling(temperature=0, logit_bias={plain[0]: -100})).ids
    assert plain[0] not in banned
    varied = completed(make_engine, checkpoints["llama"], Sampling(temperature=0, presence_penalty=2)).ids
    assert len(set(varied)) >= len(set(plain))
