"""A model of pydantic-ai that plays a script, and records what it is asked and how its streams end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic_ai.messages import FinishReason, ModelMessage, ModelResponse, ModelResponseStreamEvent
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage


@dataclass(frozen=True)
class Thought:
    """A thought before the text."""

    text: str
    signature: str | None = None


@dataclass(frozen=True)
class Call:
    """A tool call, in pieces of its arguments."""

    tool: str
    arguments: Sequence[str]
    id: str = "call-1"
    details: dict[str, Any] | None = None


Item = str | Thought | Call | BaseException | RequestUsage | Callable[[], Awaitable[object]]
Script = Sequence[Item]


@dataclass(frozen=True)
class Asked:
    """One request."""

    messages: list[ModelMessage]
    settings: dict[str, Any]
    parameters: ModelRequestParameters

    @property
    def last(self) -> str:
        """The last words of the user, or of a tool."""
        return str(getattr(self.messages[-1].parts[-1], "content", ""))

    def parts(self) -> list[Any]:
        return [part for message in self.messages for part in message.parts]


class ScriptedModel(Model):
    """Plays the script that ``answer`` returns for each request."""

    def __init__(
        self,
        answer: Callable[[Asked], Script] | Script,
        *,
        name: str = "scripted",
        finish: FinishReason | None = "stop",
        usage: RequestUsage | None = None,
        **profile: Any,
    ) -> None:
        known: dict[str, Any] = {"supports_json_schema_output": True, **profile}
        super().__init__(profile=ModelProfile(**known))
        self.answer = answer if callable(answer) else lambda _: answer
        self.name = name
        self.finish: FinishReason | None = finish
        self.usage = RequestUsage(input_tokens=40, cache_read_tokens=30, output_tokens=50) if usage is None else usage
        self.asked: list[Asked] = []
        self.open = 0

    @property
    def model_name(self) -> str:
        return self.name

    @property
    def system(self) -> str:
        return "scripted"

    async def request(self, *_: Any) -> ModelResponse:
        raise AssertionError("the engine streams")

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,
    ) -> AsyncGenerator[StreamedResponse]:
        _, parameters = self.prepare_request(model_settings, model_request_parameters)
        asked = Asked(messages, dict(model_settings or {}), parameters)
        self.asked.append(asked)
        script = self.answer(asked)
        if script and isinstance(script[0], BaseException):
            raise script[0]
        self.open += 1
        try:
            yield _Streamed(model_request_parameters=parameters, model=self, script=script)
        finally:
            await asyncio.sleep(0)
            self.open -= 1


@dataclass
class _Streamed(StreamedResponse):
    model: ScriptedModel
    script: Script
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        for number, item in enumerate(self.script):
            await asyncio.sleep(0)
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, RequestUsage):
                self._usage = item
            elif callable(item):
                await item()
            else:
                for event in self._written(number, item):
                    yield event
        self._usage = self.model.usage
        self.finish_reason = self.model.finish

    def _written(self, number: int, item: str | Thought | Call) -> list[ModelResponseStreamEvent]:
        parts = self._parts_manager
        if isinstance(item, str):
            return list(parts.handle_text_delta(vendor_part_id="text", content=item))
        if isinstance(item, Thought):
            return list(
                parts.handle_thinking_delta(
                    vendor_part_id=number, content=item.text, signature=item.signature, provider_name="scripted"
                )
            )
        found: list[ModelResponseStreamEvent] = []
        for name, piece in zip([item.tool, *[None] * len(item.arguments)], item.arguments, strict=False):
            found += parts.handle_tool_call_delta_events(
                vendor_part_id=number,
                tool_name=name,
                args=piece,
                tool_call_id=item.id,
                provider_name="scripted" if item.details else None,
                provider_details=item.details,
            )
        return found

    @property
    def model_name(self) -> str:
        return self.model.model_name

    @property
    def provider_name(self) -> str:
        return "scripted"

    @property
    def provider_url(self) -> None:
        return None

    @property
    def timestamp(self) -> datetime:
        return self.at
