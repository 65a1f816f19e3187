"""The events that servers stream and the errors they send: OpenAI, vLLM (since 0.6), SGLang, llama.cpp and Ollama.

Only the fields that are read are declared.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Protocol, cast

from pydantic import BaseModel, Field, ValidationError

from sprint_agents.engine import Chunk
from sprint_agents.engines.error_text import alone, message_of
from sprint_agents.engines.http import failure
from sprint_agents.engines.json_text import read_json
from sprint_agents.errors import EngineError, EngineProtocolError, EngineRejected, EngineUnavailable

from .rejections import refine
from .repairs import EventRepair

DONE = "[DONE]"
CHARACTERS_PER_TOKEN = 4
"""The average of English text; used only if a server does not count tokens."""

_DIGITS_OF_STATUS = 3
_MOST_NOTES = 8
_NO_ERROR = ("None", "0", "200", "")
_CODES = ("code", "status_code", "status")
_KINDS = ("code", "type", "error_type", "status")
"""The fields that say how a request failed: with a number, and in words."""
_STATUS_OF = (
    ("rate_limit", 429),
    ("resource_exhausted", 429),
    ("overloaded", 503),
    ("insufficient_quota", 402),
    ("authentication", 401),
    ("permission", 403),
    ("context_length", 400),
    ("exceed_context", 400),
    ("invalid", 400),
    ("validation", 400),
    ("badrequest", 400),
    ("not_found", 404),
)


class FunctionDelta(BaseModel):
    """What an event adds to the function of a call; ``arguments`` is text, on some servers an object."""

    name: str | None = None
    arguments: object = None


class CallDelta(BaseModel):
    """A part of a tool call, or a whole one; ``StreamedCalls`` says which servers leave out which fields."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class Delta(BaseModel):
    """What an event of a chat adds. Servers call the hidden reasoning ``reasoning_content`` or ``reasoning``."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: object = None
    tool_calls: list[CallDelta] | None = None


class Choice(BaseModel):
    """One of an event's choices; vLLM says in ``stop_reason`` what ended it, SGLang in ``matched_stop``.

    Gateways that ask another server without streaming send the whole ``message`` instead of a ``delta``.
    ``logprobs`` is read where a request asked for it (``logprobs.py``). OpenRouter writes an ``error`` into the choice.
    """

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    matched_stop: int | str | None = None
    logprobs: object = None
    error: object = None

    @property
    def matched(self) -> int | str | None:
        """The stop that ended it, if the server says which."""
        return self.stop_reason if self.stop_reason is not None else self.matched_stop


_Count = Annotated[int, Field(ge=0, le=10**9)]


class _PromptDetails(BaseModel):
    cached_tokens: _Count | None = None


class _CompletionDetails(BaseModel):
    reasoning_tokens: _Count | None = None


class TokenCounts(BaseModel):
    """The cost of a request, in tokens, as the server counts it; None if it does not."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens from the cache; 0 if the server does not say."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0

    @property
    def reasoning_tokens(self) -> int | None:
        """Generated tokens of reasoning; None if the server does not say."""
        return self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens

    def after(self, earlier: "TokenCounts | None") -> "TokenCounts":
        """Return the counts after both events; some servers send zeros before or after the real ones."""
        if earlier is None:
            return self
        return TokenCounts(
            prompt_tokens=max(self.prompt_tokens or 0, earlier.prompt_tokens or 0),
            completion_tokens=_larger(self.completion_tokens, earlier.completion_tokens),
            prompt_tokens_details=_PromptDetails(cached_tokens=max(self.cached_tokens, earlier.cached_tokens)),
            completion_tokens_details=_CompletionDetails(
                reasoning_tokens=_larger(self.reasoning_tokens, earlier.reasoning_tokens)
            ),
        )


def _larger(count: int | None, other: int | None) -> int | None:
    return max(count, other) if count is not None and other is not None else other if count is None else count


def believable(tokens: int | None, characters: int) -> bool:
    """Say whether so many tokens can have so many characters; no count is not believable for any text.

    The average is about 4 characters a token, and no tokenizer's reaches 8 in text or code.
    """
    return tokens is not None and tokens * 2 * CHARACTERS_PER_TOKEN >= characters


class CompletionEvent(BaseModel):
    """One event. ``choices`` is empty in the event that has the usage, and in Azure's first event."""

    choices: list[Choice] | None = None
    usage: TokenCounts | None = None
    error: object = None

    @property
    def choice(self) -> Choice | None:
        """The only choice that is requested."""
        return next((choice for choice in self.choices or () if choice.index == 0), None)


class EventReader:
    """Reads the events of one answer; ``notes`` says what was odd about them, each thing once."""

    __slots__ = ("_repair", "notes")

    def __init__(self) -> None:
        self.notes: dict[str, None] = {}
        self._repair = EventRepair(self.note)

    def note(self, sentence: str) -> None:
        """Record something odd."""
        if len(self.notes) < _MOST_NOTES:
            self.notes[sentence] = None

    def read(self, data: str) -> CompletionEvent:
        """Read an event; one that is not in OpenAI's form is repaired first.

        Raises:
            EngineError: the event is an error, or cannot be understood.
        """
        if self._repair.half:
            event = self._repaired(data)
        else:
            try:
                event = CompletionEvent.model_validate_json(data)
            except ValidationError:
                event = self._repaired(data)
        empty = not event.choices and event.usage is None
        if (event.error is not None or empty) and (error := _error_in(data)) is not None:
            raise error
        return event

    def _repaired(self, data: str) -> CompletionEvent:
        try:
            if (fields := _fields_of(data)) is not None:
                return CompletionEvent.model_validate(self._repair.rewrite(fields))
        except ValueError:  # or a ValidationError, which is one
            pass
        raise EngineProtocolError(f"the server streamed an invalid event: {message_of(data)}")


def error_of_event(data: str) -> EngineError:
    """Return the error that the data of an event of type ``error`` describes."""
    return _error_in(data) or refine(_failure_of(message_of(data)))


def _error_in(data: str) -> EngineError | None:
    """Return the error in an event, such as ``{"object": "error", "message": …}`` of older vLLMs, if there is one.

    Servers without optional fields write an empty error into each event.
    """
    try:
        fields = _fields_of(data) or {}
    except ValueError:
        return None
    error = fields.get("error")
    if any(cast(dict[str, Any], error).values()) if isinstance(error, dict) else error:
        return refine(_failure_of(cast(object, error), fields))
    named = any("error" in str(fields.get(key)).lower() for key in ("object", "type"))
    coded = str(fields.get("code")) not in _NO_ERROR or "detail" in fields
    told = any(isinstance(fields.get(key), str) for key in ("message", "detail"))
    return refine(_failure_of(fields)) if told and (named or coded) else None


def _fields_of(data: str) -> dict[str, Any] | None:
    """Read an event that is an object; some gateways write the prefix of its line twice.

    Raises:
        ValueError: it is not JSON.
    """
    value = alone(read_json(data.strip().removeprefix("data:")))
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


class AnswerReader(Protocol):
    """Reads the events of one request into chunks; ``over`` once no more events are needed."""

    over: bool

    @property
    def ended(self) -> bool:
        """Whether all of the completion has arrived."""
        ...

    @property
    def notes(self) -> Iterable[str]:
        """Sentences about the oddities of the answer."""
        ...

    def read(self, data: str) -> Chunk | None:
        """Return what an event adds; None if it adds nothing.

        Raises:
            EngineError: the server ended the request without finishing it, or the event is invalid.
        """
        ...

    async def end(self) -> Chunk | None:
        """Return the last chunk, which has the finish; None if the server did not finish the request.

        Raises:
            EngineError: it ended in a way that is not a completion.
        """
        ...


_ENDS: Mapping[str, Literal["stop", "length", "call", "filter", "failure"]] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "completed"), "stop"),
    **dict.fromkeys(
        (
            "length",
            "max_tokens",
            "model_length",
            "max_output_tokens",
            "max_new_tokens",
            "max_length",
            "model_context_window_exceeded",
        ),
        "length",
    ),
    **dict.fromkeys(("tool_calls", "function_call", "tool_use", "tool_call"), "call"),
    **dict.fromkeys(
        (
            "content_filter",
            "content_filtered",
            "sensitive",
            "safety",
            "spii",
            "recitation",
            "blocklist",
            "prohibited_content",
            "refusal",
            "guardrail_intervened",
        ),
        "filter",
    ),
    **dict.fromkeys(
        (
            "abort",
            "aborted",
            "cancelled",
            "error",
            "failed",
            "network_error",
            "insufficient_system_resource",
            "function_call_filter",
            "malformed_function_call",
        ),
        "failure",
    ),
}
"""What the finish reasons of all known servers mean, in small letters."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a server ended a completion, and at which stop; ``known`` is False for a reason that no known server has."""

    reason: Literal["stop", "length"]
    matched: int | str | None = None
    known: bool = True

    @classmethod
    def of(cls, choice: Choice, *, may_call: bool = False, any_text: bool = False) -> "Ending | None":
        """Read it from a choice; None while the completion continues.

        ``may_call`` says whether tools may be called, ``any_text`` whether a text has arrived. An unknown reason counts
        as a stop, because the text before it is finished.

        Raises:
            EngineError: it ended in a way that is not a completion.
        """
        delta = choice.delta or choice.message
        if delta and delta.tool_calls and not may_call:
            raise _unexpected_call()
        if not (reason := choice.finish_reason):
            return None
        # Gemini's API adds details, as in "content_filter: PROHIBITED_CONTENT".
        match _ENDS.get(reason.lower().partition(":")[0]):
            case "stop":
                return cls("stop", choice.matched)
            case "length":
                return cls("length")
            case "filter":
                raise EngineRejected("the server's content filter withheld the completion: rephrase the task")
            case "call":
                if not (may_call or any_text):
                    raise _unexpected_call()
                return cls("stop")
            case "failure":
                if choice.error:
                    raise refine(_failure_of(choice.error))
                raise EngineUnavailable(f"the server gave up the request: finish_reason is {reason!r}")
            case None:
                return cls("stop", choice.matched, known=False)

    def after(self, earlier: "Ending | None") -> "Ending":
        """Return the one of two endings that counts: the later one, but never an unknown one after another."""
        return self if self.known or earlier is None else earlier


def _unexpected_call() -> EngineProtocolError:
    return EngineProtocolError(
        "the server took the model's text for a tool call, and this request allows none: start the server without a "
        "tool parser, or let it call executors' tools with OpenAIEngine(…, tools='native')"
    )


def _failure_of(error: object, event: Mapping[str, Any] = MappingProxyType({})) -> EngineError:
    """Return the error for an error event: by its status, otherwise by its type, otherwise as a failed server.

    Both may be fields of the error, or of the event around it: ``{"error": "busy", "error_type": "overloaded"}``.
    """
    fields = {**event, **cast(dict[str, Any], error)} if isinstance(error, dict) else event
    words = " ".join(str(fields.get(key)) for key in _KINDS).lower()
    codes = [code for key in _CODES if len(code := str(fields.get(key))) == _DIGITS_OF_STATUS and code.isdecimal()]
    status = next((int(code) for code in codes if int(code) >= 400), None)
    if status is None:
        status = next((status for word, status in _STATUS_OF if word in words), 500)
    return failure(status, message_of(json.dumps({"error": error})))
