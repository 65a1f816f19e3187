"""What SGLang streams for one request, read into chunks (``/generate`` with ``stream: true``).

By default every event holds all text and ids so far; with ``--incremental-streaming-output`` only the new ones. An
event's ``completion_tokens`` tells which: it counts all tokens so far, and no cumulative event has fewer ids than that
(it may have more, since the server adds to the list while the event waits to be sent).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ValidationError

from sprint_agents.engine import Chunk, Finish
from sprint_agents.engines.http import failure, message_of
from sprint_agents.errors import ContextOverflow, EngineError, EngineProtocolError, EngineRejected, EngineUnavailable

DONE = "[DONE]"

_TOO_LONG = (
    re.compile(r"input \((?P<tokens>\d+) tokens\) is longer than the model's context length \((?P<limit>\d+) tokens\)"),
    re.compile(r"maximum context length of (?P<limit>\d+) tokens. You requested a total of (?P<tokens>\d+) tokens"),
    re.compile(r"Input length \((?P<tokens>\d+) tokens\) exceeds the maximum allowed length \((?P<limit>\d+) tokens\)"),
)


class _Ending(BaseModel):
    type: Literal["stop", "length", "abort"]
    matched: int | str | None = None
    message: str | None = None
    status_code: int | None = None


class _Meta(BaseModel):
    finish_reason: _Ending | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class _Frame(BaseModel):
    text: str
    output_ids: list[int]
    meta_info: _Meta


class _Failure(BaseModel):
    message: str
    code: int = 400


class _FailureFrame(BaseModel):
    error: _Failure


@dataclass(slots=True)
class FrameReader:
    """Turns the events of one request into chunks; ``ended`` once the server has said that the request is over."""

    ended: bool = False
    _ids: int = 0
    _characters: int = 0

    def read(self, data: str) -> Chunk | None:
        """Return what an event adds, None if that is nothing.

        Raises:
            EngineError: the server ended the request without finishing it, or the event makes no sense.
        """
        try:
            frame = _Frame.model_validate_json(data)
        except ValidationError:
            raise self._failure(data) from None
        return self._read(frame)

    def take(self, event: Mapping[str, object]) -> Chunk | None:
        """Return what an event adds that never was JSON, None if that is nothing.

        Raises:
            EngineError: see ``read``.
        """
        try:
            return self._read(_Frame.model_validate(event))
        except ValidationError as error:
            raise EngineProtocolError(f"SGLang returned something that makes no sense: {error}") from error

    def _read(self, frame: _Frame) -> Chunk | None:
        ending = frame.meta_info.finish_reason
        self.ended = ending is not None
        if ending and ending.type == "abort":
            message = ending.message or "aborted"
            if ending.status_code is not None:
                raise recognised(failure(ending.status_code, message))
            raise EngineUnavailable(f"the request was aborted: {message}")
        ids, text = self._news(frame)
        finish = _finish(ending, frame.meta_info) if ending else None
        return Chunk(ids, text, finish) if ids or text or finish else None

    def _news(self, frame: _Frame) -> tuple[list[int], str]:
        ids, text, total = frame.output_ids, frame.text, frame.meta_info.completion_tokens
        if len(ids) >= max(total, self._ids):
            ids, text = ids[self._ids :], text[self._characters :]
        elif self._ids + len(ids) != total:
            raise EngineProtocolError(
                f"the server had sent {self._ids} tokens and now sends {len(ids)}, of {total} altogether"
            )
        self._ids += len(ids)
        self._characters += len(text)
        return ids, text

    def _failure(self, data: str) -> EngineError:
        try:
            error = _FailureFrame.model_validate_json(data).error
        except ValidationError:
            return EngineProtocolError(f"the server streamed something that makes no sense: {message_of(data)}")
        self.ended = True
        return recognised(failure(error.code, error.message))


def recognised(error: EngineError) -> EngineError:
    """Return the more exact error that a refusal's message stands for, or ``error`` itself."""
    if not isinstance(error, EngineRejected):
        return error
    message = str(error)
    for pattern in _TOO_LONG:
        if match := pattern.search(message):
            return ContextOverflow(tokens=int(match["tokens"]), limit=int(match["limit"]))
    return error


def _finish(ending: _Ending, meta: _Meta) -> Finish:
    reason: Literal["stop", "length"] = "stop" if ending.type == "stop" else "length"
    return Finish(reason, ending.matched, meta.prompt_tokens, meta.cached_tokens)
