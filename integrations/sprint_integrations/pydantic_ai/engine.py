"""``PydanticAIEngine``: any model that pydantic-ai knows.

Invariants:

- A request is sent again only before its first token arrived, and only by this engine.
- An abort interrupts the wait for the next event in the task that reads it. Leaving the stream closes the connection.
- Thoughts are never part of the text. The provider gets them back with their signatures (see ``history``).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from math import ceil
from typing import Literal, TypeVar, cast

from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse, infer_model
from pydantic_ai.settings import ModelSettings

from sprint_agents.arguments import checked
from sprint_agents.engine import Capabilities, Chunk, Finish, Request, check_logprobs
from sprint_agents.engines.openai.conversation import CALLING_TURNS, REPLACEMENT, TURNS, conversation_of, decode, encode
from sprint_agents.engines.openai.events import CHARACTERS_PER_TOKEN
from sprint_agents.engines.openai.rejections import least_limit, room_left
from sprint_agents.engines.openai.streamed import names_of_stops
from sprint_agents.engines.remote import RemoteEngine, RunningRequest, check_request, counted, first_chunk
from sprint_agents.errors import ConfigurationError, EngineRejected, EngineUnavailable

from .abilities import Abilities, Preference
from .failures import translated
from .history import ResponseMemory, messages_of
from .reader import ResponseReader

T = TypeVar("T")

_RESPONSES = 4096
"""How many responses with thoughts or signatures are kept for later requests."""
_SMALLER_LIMITS = 2
"""How often a limit is lowered: a provider may name the model's bound on completions first, then the context's end."""
_ENGINES_OWN = ("max_tokens", "tool_choice", "stop_sequences")


@dataclass(slots=True)
class _Reading(RunningRequest):
    """``waiting`` is the timeout around the wait for the next event."""

    waiting: asyncio.Timeout | None = None

    async def wait(self, event: Awaitable[T]) -> T:
        """Await the next event.

        Raises:
            EngineUnavailable: the request was aborted.
        """
        try:
            async with asyncio.timeout(None) as self.waiting:
                if self.aborted:
                    self.waiting.reschedule(asyncio.get_running_loop().time())
                    await asyncio.sleep(0)
                return await event
        except TimeoutError as error:
            if not self.aborted:
                raise
            raise EngineUnavailable("the request was aborted") from error
        finally:
            self.waiting = None


class _Entered:
    """The connections of a model, which keeps them while it is entered."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    async def open(self) -> None:
        """Enter the model, so that connections are kept between requests."""
        if self._loop is None:
            await self._model.__aenter__()
            self._loop = asyncio.get_running_loop()

    async def aclose(self) -> None:
        """Leave the model; if its loop has been closed, so have its connections."""
        self.closed = True
        loop, self._loop = self._loop, None
        if loop is asyncio.get_running_loop():
            await self._model.__aexit__(None, None, None)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request in pydantic-ai's form; ``context`` is the text that it completes."""

    context: str
    messages: list[ModelMessage]
    settings: ModelSettings
    parameters: ModelRequestParameters
    reader: ResponseReader


@checked
class PydanticAIEngine(RemoteEngine[_Reading]):
    """An ``Engine`` on any model of pydantic-ai, such as ``"anthropic:claude-sonnet-5-5"``.

    ``model`` is a name, or a ``pydantic_ai.models.Model`` that you made, with its provider, its key and its profile.
    ``settings`` are added to each request and take precedence over the engine's: ``{"thinking": "high"}``.

    Contexts are conversations, as with ``OpenAIEngine``: ids are characters, and ``Finish`` has the provider's counts.
    The model's thoughts are counted, are never part of the text, and are sent back with their signatures.

    Providers cache a prompt under the schema of its answer, and planner and executors have different schemas.
    ``prefer="schemas"`` enforces schemas where the model's profile says that it can. ``prefer="cache"`` sends none, so
    that the requests of a run differ in their last turns only; the model is told the format, and corrected.

    ``tools`` says how an executor's model calls tools: in the provider's own way (``native``), where the model can, or
    as JSON that it writes (``written``).

    A request that is refused for now, or breaks before its first token, is sent again for ``patience`` seconds. If a
    provider asks for a longer pause, the request fails at once.

    >>> from pydantic_ai.models.test import TestModel
    >>> PydanticAIEngine(TestModel()).name
    'test:test'

    Raises:
        ConfigurationError: there is no such model, its key is missing, or a setting belongs to the engine.
    """

    def __init__(
        self,
        model: Model | str,
        *,
        settings: ModelSettings | None = None,
        prefer: Preference = "schemas",
        tools: Literal["native", "written"] = "native",
        patience: float = 60.0,
    ) -> None:
        for name in _ENGINES_OWN:
            if name in (settings or {}):
                raise ConfigurationError(
                    f"settings has {name!r}, which the engine sets for each request: limit tokens with Limits and "
                    "Budget, and leave the others out"
                )
        self._model = _inferred(model)
        super().__init__(_Entered(self._model), patience=patience)
        self._abilities = Abilities.of(self._model, settings or ModelSettings())
        self._prefer: Preference = prefer
        self._memory = ResponseMemory(_RESPONSES)
        native = tools == "native" and self._abilities.tools
        schemas = self._abilities.schemas and prefer == "schemas"
        self._capabilities = Capabilities(chat=CALLING_TURNS if native else TURNS, schemas=schemas)

    @property
    def name(self) -> str:
        """The provider and the model, as pydantic-ai names them: ``anthropic:claude-sonnet-5-5``."""
        return self._model.model_id

    @property
    def capabilities(self) -> Capabilities:
        """Turns; schemas and native tools if the model's profile has them and you want them."""
        return self._capabilities

    async def encode(self, text: str) -> list[int]:
        """Return the code points of ``text``."""
        return encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of code points.

        Raises:
            InvalidRequest: one of them is not a character.
        """
        return decode(ids)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the completion of ``request``.

        The engine looks for stop texts itself, and leaves the stream at the first one, before the provider has counted
        the tokens. For ``max_tokens`` 0 nothing is sent, because providers cannot compute a prefix alone. A completion
        ends at once, with reason ``length``, if its limit is smaller than the provider takes (16 with OpenAI's
        Responses).

        Raises:
            InvalidRequest: an empty context, ids that are not characters, a negative limit, or an id in use.
            ConfigurationError: the model cannot do what the request or the settings ask for.
            ContextOverflow: the context leaves no room for a token.
            EngineRejected: a wrong key or model, an empty account, or a content filter.
            EngineUnavailable: no connection, the provider failed, or ``abort`` ended the request.
            EngineError: see the tree in ``errors``.
        """
        ids = request.context.flatten()
        check_request(request, ids)
        check_logprobs(self, request.sampling)
        context = decode(ids, mark=REPLACEMENT)
        running = _Reading()
        with self._registered(request, running):
            if request.max_tokens == 0:
                yield _unsent(context)
                return
            chunks, first = await self._retry(lambda: self._begin(request, running, context), running=running)
            async with aclosing(chunks):
                yield counted(first, running)
                async for chunk in chunks:
                    yield counted(chunk, running)

    async def _begin(self, request: Request, running: _Reading, context: str) -> tuple[AsyncGenerator[Chunk], Chunk]:
        """Send a request and wait for its first chunk; ask for fewer tokens if the provider says that it must."""
        room = request.max_tokens
        for _ in range(_SMALLER_LIMITS):
            try:
                return await first_chunk(self._attempt(running, self._prepare(request, context, limit=room)))
            except EngineRejected as error:
                if (least := least_limit(error)) is not None and room < least:
                    return self._nothing_of(context, limit=room, least=least)
                left = room_left(error)
                if left is None or not 0 < left < room:
                    raise
                room = left
        return await first_chunk(self._attempt(running, self._prepare(request, context, limit=room)))

    def _nothing_of(self, context: str, *, limit: int, least: int) -> tuple[AsyncGenerator[Chunk], Chunk]:
        """End a completion at its limit before its first token: a larger one might exceed the run's budget."""
        note = f"the provider takes no limit below {least} tokens, so a completion of {limit} was not made"
        self._log_once([note], url=self._model.base_url or self.name)
        return _no_more(), _unsent(context)

    def _prepare(self, request: Request, context: str, *, limit: int) -> _Prepared:
        conversation = conversation_of(context)
        if conversation.open:
            raise ConfigurationError(
                "the context ends inside a turn of the assistant, and hosted models cannot continue one: end the turn "
                "and ask in a new one"
            )
        if request.tools and not self._capabilities.native_tools:
            raise ConfigurationError(
                "the request offers tools, and this engine has the model write its calls: make it with tools='native' "
                "and a model that can call tools"
            )
        settings = self._abilities.settings_of(request, conversation.messages, prefer=self._prefer)
        reader = ResponseReader(
            stops=names_of_stops(request),
            max_tokens=request.max_tokens,
            prompt_tokens=ceil(conversation.characters / CHARACTERS_PER_TOKEN),
            may_call=bool(request.tools) and request.may_call,
        )
        return _Prepared(
            context=context,
            messages=messages_of(conversation, self._memory.recall(context, conversation.ends)),
            settings=settings | {"max_tokens": limit},
            parameters=self._abilities.parameters_of(request),
            reader=reader,
        )

    async def _attempt(self, running: _Reading, prepared: _Prepared) -> AsyncGenerator[Chunk]:
        if self._connections.closed:
            raise EngineUnavailable(f"the engine for {self.name} is closed")
        reader = prepared.reader
        with translated():
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self._model)
                response = await running.wait(stack.enter_async_context(_stream(self._model, prepared)))
                events = aiter(response)
                stack.push_async_callback(_close, events)
                while (event := await running.wait(anext(events, None))) is not None:
                    if chunk := reader.take(event):
                        yield chunk
                    if reader.over:
                        break
                last = reader.leave(response.usage) if reader.over else reader.end(response.get())
            if not reader.over:
                self._memory.keep(prepared.context + reader.text, response.get())
        self._log_once(reader.notes, url=self._model.base_url or self.name)
        yield last

    async def _end(self, running: _Reading) -> None:
        """Interrupt the wait for the next event, whose task then leaves the stream."""
        if running.waiting is not None:
            running.waiting.reschedule(asyncio.get_running_loop().time())

    async def _end_at_close(self, running: _Reading) -> None:
        running.aborted = True
        await self._end(running)


def _unsent(context: str) -> Chunk:
    """Return the end of a completion of no tokens, for which nothing was sent."""
    return Chunk((), "", Finish("length", None, ceil(len(context) / CHARACTERS_PER_TOKEN), 0, 0))


async def _no_more() -> AsyncGenerator[Chunk]:
    return
    yield  # makes it a generator


async def _close(events: AsyncIterator[object]) -> None:
    """Close an iterator of events now: otherwise the event loop does so at some later time."""
    if isinstance(events, AsyncGenerator):
        await cast("AsyncGenerator[object]", events).aclose()


def _stream(model: Model, prepared: _Prepared) -> AbstractAsyncContextManager[StreamedResponse]:
    return model_request_stream(
        model,
        prepared.messages,
        model_settings=prepared.settings,
        model_request_parameters=prepared.parameters,
    )


def _inferred(model: Model | str) -> Model:
    """Return the model of that name.

    Raises:
        ConfigurationError: there is none, its provider's package is not installed, or its key is missing.
    """
    if isinstance(model, Model):
        return model
    try:
        return infer_model(model)
    except (UserError, ImportError, ValueError) as error:
        raise ConfigurationError(f"the model {model!r} cannot be used: {error}") from error
