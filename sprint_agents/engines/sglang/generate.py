"""SGLang's ``/generate``: the body of a request, the stream of its answer, and how to resume a broken stream.

Invariants:

- A body leaves nothing to the server's own defaults.
- Ids that have arrived never change: the request that resumes a stream has them at the end of its context. The model
  then draws the next token as it would have drawn it before, greedily or not.
- A stream is resumed only at a clean point. A character whose bytes have not all arrived, a partial stop text, or the
  position in a JSON schema would be lost between two requests.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import BaseModel, ValidationError

from sprint_agents.engine import Chunk, Finish, Request, TokenLogprob
from sprint_agents.engines.checkpoint import check_ids
from sprint_agents.engines.error_text import message_of
from sprint_agents.engines.http import failure
from sprint_agents.engines.json_text import join_halves, read_json
from sprint_agents.engines.remote import check_request
from sprint_agents.engines.schemas import portable_schema
from sprint_agents.errors import ContextOverflow, EngineError, EngineProtocolError, EngineRejected, EngineUnavailable

from .model import ServedModel

DONE = "[DONE]"

_TOKENS_AN_EVENT = 64
"""For completions that are read at their end. A stream that breaks is resumed after the tokens that had arrived, and a
server that is silent for long is noticed, so the completion is not requested in one piece."""
_MOST_BYTES = 3
"""The bytes of a character in UTF-8 before its last one."""

_TOO_LONG = (
    re.compile(
        r"input \((?P<tokens>\d{1,9}) tokens\) is longer than the model's context length \((?P<limit>\d{1,9}) tokens\)"
    ),
    re.compile(
        r"maximum context length of (?P<limit>\d{1,9}) tokens. You requested a total of (?P<tokens>\d{1,9}) tokens"
    ),
    re.compile(
        r"Input length \((?P<tokens>\d{1,9}) tokens\) exceeds the maximum allowed length \((?P<limit>\d{1,9}) tokens\)"
    ),
)

Decode = Callable[[Sequence[int]], Awaitable[str]]


def body_of(request: Request, model: ServedModel) -> dict[str, object]:
    """Write the body of a request, without its ``rid``.

    Raises:
        InvalidRequest: an empty context, ids outside the vocabulary, or a negative limit.
        ContextOverflow: the context leaves no room for a token.
    """
    ids = request.context.flatten()
    check_request(request, ids)
    for each in (ids, tuple(request.stop_ids)):
        check_ids(each, size=model.vocabulary_size, model=model.name)
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
        "min_p": sampling.min_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "n": 1,
        "ignore_eos": False,
        "stop": list(request.stop_texts),
        "stop_token_ids": sorted(request.stop_ids),
        "no_stop_trim": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "sampling_seed": sampling.seed,
    }
    if request.whole:
        parameters["stream_interval"] = _TOKENS_AN_EVENT
    if request.schema is not None and not request.written:  # a server starts a grammar only with the completion
        parameters["json_schema"] = portable_schema(request.schema)
    if sampling.logit_bias:
        check_ids([*sampling.logit_bias], size=model.vocabulary_size, model=model.name)
        parameters["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    body: dict[str, object] = {"input_ids": ids, "sampling_params": parameters, "stream": True}
    if sampling.logprobs is not None and room:
        # From -1 on, that is of no token of the prompt: others would have to be computed again, cached or not.
        body |= {"return_logprob": True, "logprob_start_len": -1, "top_logprobs_num": sampling.logprobs}
    return body


class _FinishReason(BaseModel):
    type: str
    matched: int | str | None = None
    message: str | None = None
    status_code: int | None = None


_Logprob = tuple[float | None, int, object]
"""The log-probability of a token, its id, and its text, for which the engine does not ask."""


class _MetaInfo(BaseModel):
    finish_reason: _FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int = 0
    cached_tokens: int | None = None
    output_token_logprobs: list[_Logprob] | None = None
    output_top_logprobs: list[list[_Logprob] | None] | None = None


class GenerateEvent(BaseModel):
    """An event of the stream; ``index`` says of which request, if several were sent together."""

    text: str
    output_ids: list[int]
    meta_info: _MetaInfo
    index: int | None = None


class _Failure(BaseModel):
    message: str
    code: int | str = 400


class _FailureEvent(BaseModel):
    """An event for a request that failed; routers write the ``error`` as a text, or have words for its ``code``."""

    error: _Failure | str


@dataclass(slots=True)
class GenerateReader:
    """Reads the events of one request into chunks; ``ended`` once the server has said that the request is over.

    ``prompt_tokens`` is the length of the request's context, below which no count of the server is believed.
    ``logprobs`` says whether the request asks for log-probabilities.
    """

    prompt_tokens: int = 0
    logprobs: bool = False
    ended: bool = False
    _ids: int = 0
    _characters: int = 0
    _unfinished: str = ""

    def read(self, data: str) -> Chunk | None:
        """Return what an event in JSON adds; None if it adds nothing.

        Raises:
            EngineError: the server ended the request without finishing it, or the event is invalid.
        """
        try:
            event = read_event(data)
        except EngineError as error:
            self.ended = not isinstance(error, EngineProtocolError)
            raise
        return self.add(event)

    def take(self, event: Mapping[str, object]) -> Chunk | None:
        """Return what an event from an in-process engine adds; None if it adds nothing.

        Raises:
            EngineError: see ``read``.
        """
        try:
            return self.add(GenerateEvent.model_validate(event))
        except ValidationError as error:
            raise EngineProtocolError(f"SGLang returned an invalid event: {error}") from error

    def add(self, event: GenerateEvent) -> Chunk | None:
        """Return what an event adds; None if it adds nothing.

        Raises:
            EngineError: see ``read``.
        """
        reason = event.meta_info.finish_reason
        self.ended = reason is not None
        if reason and reason.type == "abort":
            message = reason.message or "aborted"
            if reason.status_code is not None:
                raise refine(failure(reason.status_code, message))
            raise EngineUnavailable(f"the request was aborted: {message}")
        ids, text = self._news(event)
        finish = self._finish(reason, event.meta_info) if reason else None
        logprobs = self._new_logprobs(event.meta_info, ids) if self.logprobs else ()
        return Chunk(ids, text, finish, logprobs=logprobs) if ids or text or finish else None

    def _news(self, event: GenerateEvent) -> tuple[list[int], str]:
        """Return the ids and the text that earlier events did not have.

        By default every event repeats all ids and text so far; with ``--incremental-streaming-output`` it has only the
        new ones. ``completion_tokens`` counts all tokens so far, so it tells the two apart. After 2 ids, an event with
        ``completion_tokens`` 3 and 3 ids is cumulative (1 id is new), one with 3 and 1 id is incremental. A cumulative
        event may have more ids than it counts, because the server adds to the list while the event waits to be sent.

        A character may arrive in two events, as the halves of a surrogate pair, or first as U+FFFD. Its beginning is
        kept for the next event, which repeats it if it is cumulative.
        """
        ids, text, total = event.output_ids, event.text, event.meta_info.completion_tokens
        if ids and total <= 0:
            raise EngineProtocolError(
                f"the server sent {len(ids)} tokens and counts {total}: its events cannot be read"
            )
        if len(ids) >= max(total, self._ids):
            ids, text = ids[self._ids :], text[self._characters :]
        elif self._ids + len(ids) != total:
            raise EngineProtocolError(
                f"the server had sent {self._ids} tokens and now sends {len(ids)}, of {total} altogether"
            )
        else:
            text = self._unfinished + text
        self._unfinished = "" if event.meta_info.finish_reason else _unfinished(text)
        text = text[: len(text) - len(self._unfinished)]
        self._ids += len(ids)
        self._characters += len(text)
        return ids, text if text.isascii() else join_halves(text)

    def _new_logprobs(self, meta: _MetaInfo, ids: Sequence[int]) -> list[TokenLogprob]:
        """Return the log-probabilities of the new ``ids``, the last of all that have arrived.

        The lists repeat what earlier events had if the ids do. They may hold more than the event's ids, for the same
        reason, so each is found by its place: after 2 ids and with 1 new one, item 2 of a cumulative list.
        """
        found, top, start = meta.output_token_logprobs or [], meta.output_top_logprobs, self._ids - len(ids)
        if len(found) < self._ids:  # an incremental event
            start = 0
        if [token for _, token, _ in found[start : start + len(ids)]] != list(ids):
            raise EngineProtocolError(f"the server sent log-probabilities of other tokens than {list(ids)[:8]}")
        return [
            TokenLogprob(ids[index], found[start + index][0] or 0.0, _pairs(top[start + index] if top else None))
            for index in range(len(ids))
        ]

    def _finish(self, reason: _FinishReason, meta: _MetaInfo) -> Finish:
        # An unknown reason is a stop: the text before it is finished.
        kind: Literal["stop", "length"] = "length" if reason.type == "length" else "stop"
        prompt = max(meta.prompt_tokens or 0, self.prompt_tokens)
        return Finish(kind, reason.matched, prompt, min(max(meta.cached_tokens or 0, 0), prompt))

    def unread(self, event: GenerateEvent) -> int:
        """Return how many tokens had been generated by an event, beyond those that were read."""
        return max(0, event.meta_info.completion_tokens - self._ids)


def read_event(data: str) -> GenerateEvent:
    """Read an event in JSON.

    Raises:
        EngineProtocolError: it is invalid.
        EngineError: the server says that it has ended the request without finishing it.
    """
    try:
        return GenerateEvent.model_validate_json(data)
    except ValidationError:
        try:  # half of a character in the text, or a number of any length
            return GenerateEvent.model_validate(read_json(data))
        except ValueError:
            raise _failure(data) from None


def _failure(data: str) -> EngineError:
    try:
        error = _FailureEvent.model_validate_json(data).error
    except ValidationError:
        return EngineProtocolError(f"the server streamed an invalid event: {message_of(data)}")
    if isinstance(error, str):
        return refine(failure(500, error))
    return refine(failure(int(error.code) if str(error.code).isdecimal() else 500, error.message))


def refine(error: EngineError) -> EngineError:
    """Return ``ContextOverflow`` if that is what a refusal says, or ``error`` itself."""
    if not isinstance(error, EngineRejected):
        return error
    message = str(error)
    for pattern in _TOO_LONG:
        if match := pattern.search(message):
            return ContextOverflow(tokens=int(match["tokens"]), limit=int(match["limit"]))
    return error


@dataclass(slots=True)
class PartialCompletion:
    """The ids and texts that have arrived so far for ``request``."""

    request: Request
    ids: list[int] = field(default_factory=list[int])
    _texts: list[str] = field(default_factory=list[str])

    def add(self, chunk: Chunk) -> Chunk:
        """Record ``chunk`` and return it."""
        self.ids += chunk.ids
        self._texts.append(chunk.text)
        return chunk

    async def remainder(self, decode: Decode) -> Request | None:
        """Return the request for the rest of the completion; None if the stream did not break at a clean point."""
        text, request = "".join(self._texts), self.request
        held = request.schema is not None and not request.written
        if not self.ids or held or _ends_within(text, request.stop_texts):
            return None
        # Text that the server was still holding back shows only in the ids. Decoders drop a leading space.
        if (await decode(self.ids)).lstrip() != text.lstrip():
            return None
        return replace(
            request,
            context=request.context.extend(self.ids, text),
            max_tokens=request.max_tokens - len(self.ids),
        )


def _pairs(logprobs: Sequence[_Logprob] | None) -> tuple[tuple[int, float], ...]:
    """Return tokens with their log-probabilities."""
    return tuple([(token, value) for value, token, _ in logprobs or () if value is not None])


def _unfinished(text: str) -> str:
    """Return the end of the text that is the beginning of a character, or what a decoder writes for its bytes."""
    if "\ud800" <= text[-1:] <= "\udbff":
        return text[-1]
    return text[len(text.rstrip("\ufffd")) :][-_MOST_BYTES:]


def _ends_within(text: str, stops: Sequence[str]) -> bool:
    """Say whether the text ends with the beginning of a stop: ``"a </p"`` ends within ``"</plan>"``."""
    return any(text.endswith(stop[:length]) for stop in stops for length in range(1, len(stop)))
