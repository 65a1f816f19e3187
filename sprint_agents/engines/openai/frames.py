"""What servers stream, as far as it is read: the shapes of OpenAI, vLLM, SGLang, llama.cpp and Ollama."""

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from pydantic import BaseModel, JsonValue, ValidationError

from sprint_agents.engine import Chunk
from sprint_agents.engines.http import failure, message_of
from sprint_agents.errors import EngineError, EngineProtocolError, EngineRejected, EngineUnavailable

from .refusals import recognised

DONE = "[DONE]"
CHARACTERS_PER_TOKEN = 4
"""What English text comes to; used only where a server does not count."""

_STATUS_OF = (("rate_limit", 429), ("overloaded", 503), ("invalid", 400), ("badrequest", 400), ("not_found", 404))


class FunctionDelta(BaseModel):
    """What a chunk adds to the function of a call; ``arguments`` are a text, and an object on some servers."""

    name: str | None = None
    arguments: JsonValue = None


class CallDelta(BaseModel):
    """What a chunk adds to a call of a tool, or a whole one; what is missing on which servers, see ``calls``."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class Delta(BaseModel):
    """What a chunk of a chat adds. Servers call the model's hidden words ``reasoning_content`` or ``reasoning``."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: object = None
    tool_calls: list[CallDelta] | None = None


class Choice(BaseModel):
    """One of a chunk's choices; vLLM says in ``stop_reason`` what ended it, SGLang in ``matched_stop``."""

    index: int = 0
    delta: Delta | None = None
    text: str | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    matched_stop: int | str | None = None

    @property
    def matched(self) -> int | str | None:
        """What ended it, if the server says so."""
        return self.stop_reason if self.stop_reason is not None else self.matched_stop


class _PromptDetails(BaseModel):
    cached_tokens: int | None = None


class Usage(BaseModel):
    """What a request cost, in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens from the cache; 0 where the server does not say."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class Frame(BaseModel):
    """One event. ``choices`` is empty in the event that has the usage, and in Azure's first."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: object = None

    @classmethod
    def read(cls, data: str) -> "Frame":
        """Read an event.

        Raises:
            EngineError: it is an error, or makes no sense.
        """
        try:
            frame = cls.model_validate_json(data)
        except ValidationError:
            raise EngineProtocolError(f"the server streamed what makes no sense: {message_of(data)}") from None
        if frame.error is not None:
            raise recognised(_failure_of(frame.error))
        return frame

    @property
    def choice(self) -> Choice | None:
        """The one choice that was asked for."""
        return next((choice for choice in self.choices or () if choice.index == 0), None)


class Reader(Protocol):
    """Turns the events of one request into chunks; ``over`` once no more of them are wanted."""

    over: bool

    def read(self, data: str) -> Chunk | None:
        """Return what an event adds, None if that is nothing.

        Raises:
            EngineError: the server ended the request without finishing it, or the event makes no sense.
        """
        ...

    async def end(self) -> Chunk | None:
        """Return the last chunk, which has the finish; None if the server never finished the request.

        Raises:
            EngineError: it ended in a way that is no completion.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a server ended a completion."""

    reason: Literal["stop", "length"]
    matched: int | str | None = None

    @classmethod
    def of(cls, choice: Choice, *, may_call: bool = False) -> "Ending | None":
        """Read it from a choice, None while the completion goes on; it ``may_call`` tools or not.

        Raises:
            EngineError: it ended in a way that is no completion.
        """
        if choice.delta and choice.delta.tool_calls and not may_call:
            raise _taken_for_tools()
        match choice.finish_reason:
            case None | "":
                return None
            case "stop" | "eos" | "eos_token" | "stop_sequence":
                return cls("stop", choice.matched)
            case "length" | "max_tokens" | "model_length":
                return cls("length")
            case "content_filter":
                raise EngineRejected("the server's content filter withheld the completion: change the task's words")
            case "tool_calls" | "function_call":
                if not may_call:
                    raise _taken_for_tools()
                return cls("stop")
            case "abort" | "error" | "insufficient_system_resource":
                raise EngineUnavailable(f"the server gave up the request: finish_reason is {choice.finish_reason!r}")
            case other:
                raise EngineProtocolError(f"the server ended a completion with the unknown finish_reason {other!r}")


def _taken_for_tools() -> EngineProtocolError:
    return EngineProtocolError(
        "the server took the model's words for a call of tools where none may be called: start it without a tool "
        "parser, or let it call executors' tools by OpenAIEngine(…, tools='native')"
    )


def _failure_of(error: object) -> EngineError:
    """Make the error that an event stands for; where it has no status, its type tells, and else the server is ill."""
    status = 500
    if isinstance(error, dict):
        fields = cast(dict[str, Any], error)
        code = str(fields.get("code"))
        words = f"{code} {fields.get('type')}".lower()
        status = next((status for word, status in _STATUS_OF if word in words), status)
        status = int(code) if code.isdecimal() and int(code) >= 400 else status
    return failure(status, message_of(json.dumps({"error": error})))
