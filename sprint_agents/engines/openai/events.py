"""The events that servers stream and the errors they send: OpenAI, vLLM (since 0.6), SGLang, llama.cpp and Ollama.

Only the fields that are read are declared. Refusals are recognised by their messages.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from pydantic import BaseModel, JsonValue, ValidationError

from sprint_agents.engine import Chunk
from sprint_agents.engines.http import failure, message_of
from sprint_agents.errors import (
    ContextOverflow,
    EngineError,
    EngineOverloaded,
    EngineProtocolError,
    EngineRejected,
    EngineUnavailable,
)

DONE = "[DONE]"
CHARACTERS_PER_TOKEN = 4
"""The average of English text; used only if a server does not count tokens."""

_STATUS_OF = (("rate_limit", 429), ("overloaded", 503), ("invalid", 400), ("badrequest", 400), ("not_found", 404))

_LIMIT = re.compile(
    r"(?:maximum context length (?:is|of)|context length \(|configured limit of|available context size \("
    r"|maximum allowed length \() ?(?P<count>\d+)"
)
_PROMPT = re.compile(
    r"(?P<before>\d+) (?:in the (?:messages|prompt)|input tokens|tokens from the input)"
    r"|(?:messages resulted in|[Ii]nput(?: length)? \(|request \() ?(?P<after>\d+)"
)
# A bound on the completion alone, not the end of the context.
_COMPLETION = re.compile(r"supports at most (?P<count>\d+) completion tokens")
_NO_CREDIT = re.compile(r"exceeded your current quota|insufficient[_ ]quota", re.IGNORECASE)
_NO_ROUTE = re.compile(r"^(?!.*\bmodel\b).*\bnot found\b", re.IGNORECASE | re.DOTALL)


class FunctionDelta(BaseModel):
    """What an event adds to the function of a call; ``arguments`` is text, on some servers an object."""

    name: str | None = None
    arguments: JsonValue = None


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
    """One of an event's choices; vLLM says in ``stop_reason`` what ended it, SGLang in ``matched_stop``."""

    index: int = 0
    delta: Delta | None = None
    text: str | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    matched_stop: int | str | None = None

    @property
    def matched(self) -> int | str | None:
        """The stop that ended it, if the server says which."""
        return self.stop_reason if self.stop_reason is not None else self.matched_stop


class _PromptDetails(BaseModel):
    cached_tokens: int | None = None


class TokenCounts(BaseModel):
    """The cost of a request, in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens from the cache; 0 if the server does not say."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class CompletionEvent(BaseModel):
    """One event. ``choices`` is empty in the event that has the usage, and in Azure's first event."""

    choices: list[Choice] | None = None
    usage: TokenCounts | None = None
    error: object = None

    @classmethod
    def read(cls, data: str) -> "CompletionEvent":
        """Read an event.

        Raises:
            EngineError: the event is an error, or is invalid.
        """
        try:
            event = cls.model_validate_json(data)
        except ValidationError:
            raise EngineProtocolError(f"the server streamed an invalid event: {message_of(data)}") from None
        if event.error is not None:
            raise refine(_failure_of(event.error))
        return event

    @property
    def choice(self) -> Choice | None:
        """The only choice that is requested."""
        return next((choice for choice in self.choices or () if choice.index == 0), None)


class AnswerReader(Protocol):
    """Reads the events of one request into chunks; ``over`` once no more events are needed."""

    over: bool

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


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a server ended a completion, and at which stop."""

    reason: Literal["stop", "length"]
    matched: int | str | None = None

    @classmethod
    def of(cls, choice: Choice, *, may_call: bool = False) -> "Ending | None":
        """Read it from a choice; None while the completion continues. ``may_call`` says whether tools may be called.

        Raises:
            EngineError: it ended in a way that is not a completion.
        """
        if choice.delta and choice.delta.tool_calls and not may_call:
            raise _unexpected_call()
        match choice.finish_reason:
            case None | "":
                return None
            case "stop" | "eos" | "eos_token" | "stop_sequence":
                return cls("stop", choice.matched)
            case "length" | "max_tokens" | "model_length":
                return cls("length")
            case "content_filter":
                raise EngineRejected("the server's content filter withheld the completion: rephrase the task")
            case "tool_calls" | "function_call":
                if not may_call:
                    raise _unexpected_call()
                return cls("stop")
            case "abort" | "error" | "insufficient_system_resource":
                raise EngineUnavailable(f"the server gave up the request: finish_reason is {choice.finish_reason!r}")
            case other:
                raise EngineProtocolError(f"the server ended a completion with the unknown finish_reason {other!r}")


def _unexpected_call() -> EngineProtocolError:
    return EngineProtocolError(
        "the server took the model's text for a tool call, and this request allows none: start the server without a "
        "tool parser, or let it call executors' tools with OpenAIEngine(…, tools='native')"
    )


def _failure_of(error: object) -> EngineError:
    """Return the error for an error event: by its status, otherwise by its type, otherwise as a failed server."""
    status = 500
    if isinstance(error, dict):
        fields = cast(dict[str, Any], error)
        code = str(fields.get("code"))
        words = f"{code} {fields.get('type')}".lower()
        status = next((status for word, status in _STATUS_OF if word in words), status)
        status = int(code) if code.isdecimal() and int(code) >= 400 else status
    return failure(status, message_of(json.dumps({"error": error})))


def refine(error: EngineError) -> EngineError:
    """Return the more specific error that a refusal's message tells, or ``error`` itself."""
    message = str(error)
    if isinstance(error, EngineOverloaded) and _NO_CREDIT.search(message):
        # OpenAI sends 429 for this too, but waiting does not help.
        return EngineRejected(message)
    if not isinstance(error, EngineRejected):
        return error
    if (sizes := _sizes(message)) and sizes[0] >= sizes[1]:
        return ContextOverflow(tokens=sizes[0], limit=sizes[1])
    if _NO_ROUTE.search(message):
        return EngineRejected(f"{message}: is the URL right? It usually ends with /v1")
    return error


def room_left(error: EngineRejected) -> int | None:
    """Return how many tokens a completion may have, if the request was refused because it asked for more.

    A refusal such as "maximum context length is 4096 … 4000 in the messages" leaves room for 96.
    """
    message = str(error)
    if match := _COMPLETION.search(message):
        return int(match["count"])
    sizes = _sizes(message)
    return sizes[1] - sizes[0] if sizes else None


def _sizes(message: str) -> tuple[int, int] | None:
    """Return the numbers of tokens in the prompt and in the whole context, if a refusal names both."""
    limit, prompt = _LIMIT.search(message), _PROMPT.search(message)
    return (int(prompt["before"] or prompt["after"]), int(limit["count"])) if limit and prompt else None
