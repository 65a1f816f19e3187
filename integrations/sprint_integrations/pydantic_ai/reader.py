"""Reads the events of one streamed response into chunks."""

from collections.abc import Mapping
from typing import Literal, cast

from pydantic_ai.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.usage import RequestUsage

from sprint_agents.engine import Chunk
from sprint_agents.engines.openai.events import TokenCounts
from sprint_agents.engines.openai.streamed import StreamedText
from sprint_agents.errors import EngineRejected, EngineUnavailable

from .history import calls_of


class ResponseReader:
    """Reads one response; thoughts and tool calls are counted when they arrive, and calls are written at the end.

    ``notes`` says what was odd about the response.
    """

    __slots__ = ("_may_call", "_pieces", "_text", "notes")

    def __init__(self, *, stops: Mapping[str, int | str], max_tokens: int, prompt_tokens: int, may_call: bool) -> None:
        self.notes: list[str] = []
        self._pieces: list[str] = []
        self._may_call = may_call
        self._text = StreamedText(stops, max_tokens, prompt_tokens, self.notes.append)

    @property
    def over(self) -> bool:
        """Whether a stop text ended the completion, so that no more events are needed."""
        return self._text.stop is not None

    @property
    def text(self) -> str:
        """The text of all chunks so far."""
        return "".join(self._pieces)

    def take(self, event: ModelResponseStreamEvent) -> Chunk | None:
        """Return what an event adds; None if it adds nothing."""
        match event:
            case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                return self._written(self._text.add(text)) if text else None
            case PartStartEvent(part=ThinkingPart(content=thoughts)):
                return self._text.hide(len(thoughts)) if thoughts else None
            case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=thoughts)):
                return self._text.hide(len(thoughts)) if thoughts else None
            case PartStartEvent(part=ToolCallPart(args=arguments)):
                return self._text.hide(_length(arguments))
            case PartDeltaEvent(delta=ToolCallPartDelta(args_delta=arguments)):
                return self._text.hide(_length(arguments)) if arguments else None
            case _:
                return None

    def leave(self, usage: RequestUsage) -> Chunk:
        """Return the last chunk of a completion that a stop text ended; the provider has counted the prompt at most."""
        counts = _counts(usage).model_copy(update={"completion_tokens": None})
        return self._text.last("", "stop", self._text.stop, usage=counts)

    def end(self, response: ModelResponse) -> Chunk:
        """Return the last chunk of a response that ended by itself.

        Raises:
            EngineRejected: a content filter withheld the completion.
            EngineUnavailable: the provider gave it up, or its stream broke off.
        """
        if response.finish_reason == "content_filter":
            raise EngineRejected("the provider's content filter withheld the completion: rephrase the task")
        if response.finish_reason == "error" or response.state in ("incomplete", "interrupted"):
            raise EngineUnavailable("the provider gave up the request before it was finished")
        usage = _counts(response.usage)
        calls = calls_of(response.parts)
        if calls and not self._may_call:
            self.notes.append("the model called a tool in a turn that allows no calls, and the call was left out")
            calls = ""
        return self._written(self._text.last(calls, self._reason(response, usage), usage=usage))

    def _written(self, chunk: Chunk) -> Chunk:
        self._pieces.append(chunk.text)
        return chunk

    def _reason(self, response: ModelResponse, usage: TokenCounts) -> Literal["stop", "length"]:
        if response.finish_reason is not None:
            return "length" if response.finish_reason == "length" else "stop"
        tokens = usage.completion_tokens or self._text.tokens
        return "length" if tokens >= self._text.max_tokens else "stop"


def _counts(usage: RequestUsage) -> TokenCounts:
    """Return the provider's counts; pydantic-ai has 0 where the provider does not count."""
    return TokenCounts.model_validate(
        {
            "prompt_tokens": usage.input_tokens or None,
            "completion_tokens": usage.output_tokens or None,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.details.get("reasoning_tokens")},
        }
    )


def _length(arguments: object) -> int:
    """Count the characters of a call's arguments, or of a part of them."""
    if isinstance(arguments, Mapping):
        return len(str(cast("Mapping[str, object]", arguments)))
    return len(arguments) if isinstance(arguments, str) else 0
