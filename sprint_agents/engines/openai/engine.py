"""``OpenAIEngine``: any server that speaks OpenAI's HTTP API, as messages or, where it takes them, as token ids.

Invariants:

- A request is tried again only before its first token arrived.
- Such servers abort a request whose connection is closed; leaving a stream closes it, and so does ``abort``, whoever
  reads it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import httpx2
from pydantic import JsonValue

from sprint_agents.engine import Capabilities, Chunk, Engine, Finish, Request
from sprint_agents.engines.http import Http
from sprint_agents.errors import (
    ConfigurationError,
    EngineError,
    EngineOverloaded,
    EngineRejected,
    EngineUnavailable,
    InvalidRequest,
)
from sprint_agents.manifest import Manifest
from sprint_agents.retries import retry

from .api import Api, Body, Call, Target
from .chat import ChatApi
from .completions import CompletionsApi
from .conversation import CALLING_TURNS, TURNS
from .frames import DONE, Reader
from .refusals import recognised, room_left
from .schema import parsed
from .server import Server, ServerName, server_of

_SHRINKINGS = 2
"""A server may name the model's bound on completions first, then the end of the context."""
_PATIENCE_AFTER_THE_END = 0.2
"""Seconds for a server to end its stream once it has said that all was sent, so that the connection is kept."""


@dataclass(slots=True)
class _Running:
    """A request under way, and how to end it: while it waits for an answer, or while that is streamed."""

    aborted: bool = False
    waiting: asyncio.Timeout | None = None
    response: httpx2.Response | None = None

    async def abort(self) -> None:
        """Close the connection, which ends the request at the server."""
        self.aborted = True
        if self.waiting is not None:
            self.waiting.reschedule(asyncio.get_running_loop().time())
        if self.response is not None:
            await self.response.aclose()


class OpenAIEngine(Engine):
    """An ``Engine`` on a server with OpenAI's HTTP API: OpenAI's own, vLLM, SGLang, llama.cpp, Ollama and many others.

    ``base_url`` is the one that ends in ``/v1``. Name the kind of ``server``, if it is one of those known: what it
    understands beyond the common part is then used (``Server`` describes one of your own). ``extra`` are further fields
    of each request; None leaves out a field that would be sent otherwise.

    With ``api="chat"`` contexts are conversations: ids are characters, ``capabilities.chat`` says how turns are marked,
    and ``Finish.generated_tokens`` has the server's count. What stands outside of turns is a user's. With
    ``api="completions"`` ids are token ids, encoded here by the ``tokenizer`` in that checkpoint directory.

    ``tools`` says how an executor's model calls tools: by JSON that it has ``written``, which works with every server,
    or by the server's ``native`` way (``tools`` and ``tool_calls``), which it must have. ``strict`` says whether JSON
    schemas go out in the form of OpenAI's strict mode: always (True), never (False), or where that has words for them.

    Seconds: ``connect_timeout`` for a connection, ``read_timeout`` for the longest silence before and between tokens
    (hidden reasoning can be long). ``attempts`` in all for a request that was refused for now or broke off before its
    first token; a server that asks to come back later than ``longest_wait`` is believed, and not asked again.

    >>> OpenAIEngine("http://127.0.0.1:8000/v1", model="qwen3", server="vllm").name
    'openai:qwen3'
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        api: Literal["chat", "completions"] = "chat",
        server: Server | ServerName | None = None,
        tokenizer: str | PathLike[str] | None = None,
        tools: Literal["written", "native"] = "written",
        strict: bool | None = None,
        api_key: str | None = None,
        extra: Mapping[str, JsonValue] | None = None,
        client: httpx2.AsyncClient | None = None,
        max_connections: int = 1024,
        connect_timeout: float = 10.0,
        read_timeout: float = 300.0,
        attempts: int = 3,
        longest_wait: float = 60.0,
    ) -> None:
        if not model:
            raise ConfigurationError("name the model: OpenAIEngine(url, model=…)")
        self._http = Http(
            base_url,
            api_key=api_key,
            client=client,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        self._attempts = attempts
        self._longest_wait = longest_wait
        self._target = Target(model, server_of(server, base_url), dict(extra or {}), strict)
        self._check_options(api, tools)
        self._running: dict[str, _Running] = {}
        self._manifest: Manifest | None = None
        schemas = self._target.server.schemas != "none"
        self._api: Api
        if api == "chat":
            self._api = ChatApi(self._target, calls=tools == "native")
            turns = CALLING_TURNS if tools == "native" else TURNS
            self._capabilities = Capabilities(chat=turns, schemas=schemas)
        elif tokenizer is None:
            raise ConfigurationError("api='completions' needs tokenizer=…, the directory of the checkpoint")
        else:
            self._api = CompletionsApi(self._target, Path(tokenizer))
            self._capabilities = Capabilities(schemas=schemas)
            self._manifest = Manifest.load(Path(tokenizer))

    @property
    def name(self) -> str:
        """``openai:`` and the model's name."""
        return f"openai:{self._target.model}"

    @property
    def manifest(self) -> Manifest | None:
        """``sprint.json`` of the ``tokenizer`` directory; None without one."""
        return self._manifest

    @property
    def capabilities(self) -> Capabilities:
        """Turns with ``api="chat"`` only; schemas if the kind of server takes them."""
        return self._capabilities

    async def __aenter__(self) -> Self:
        """Keep connections from now on."""
        self._http.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def check_schema(self, schema: str, *, what: str) -> None:
        """Raise if the model cannot be held to ``schema`` as ``strict`` wants it; ``what`` names what it describes.

        Raises:
            ConfigurationError: it cannot.
        """
        self._target.told(parsed(schema), what=what)

    async def encode(self, text: str) -> list[int]:
        """Ids of ``text``: code points, or token ids with special tokens recognised and none added."""
        return await self._api.encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``.

        Raises:
            InvalidRequest: ids outside the vocabulary.
        """
        return await self._api.decode(list(ids))

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the completion of ``request``.

        It ends with reason ``length`` where the model's context ends, even before ``max_tokens``. Nothing is sent for
        ``max_tokens`` 0: these servers compute no prefix on demand.

        Raises:
            InvalidRequest: an empty context, ids outside the vocabulary, a negative limit, or an id in use.
            ConfigurationError: the request asks for what this kind of server cannot do.
            ContextOverflow: the context leaves no room for a token.
            EngineRejected: a wrong key or model, a content filter, or the model refused to answer.
            EngineUnavailable: no connection, the server died, or the request was aborted by ``abort``.
            EngineError: see the tree in ``errors``.
        """
        call = self._api.call(request)
        if request.id in self._running:
            raise InvalidRequest(f"request id {request.id!r} is in use: give every request an id of its own")
        if request.max_tokens == 0:
            yield Chunk((), "", Finish("length", None, call.prompt_tokens, 0, 0))
            return
        self._running[request.id] = running = _Running()
        try:
            chunks, first = await retry(
                lambda: self._begin(request, running, call),
                attempts=self._attempts,
                when=lambda error: self._passing(error, running),
            )
            async with aclosing(chunks):
                yield first
                async for chunk in chunks:
                    yield chunk
        finally:
            del self._running[request.id]

    async def abort(self, request_id: str) -> None:
        """End a request of this engine, whoever reads it; unknown and finished ids are ignored."""
        if running := self._running.get(request_id):
            await running.abort()

    async def aclose(self) -> None:
        """Abort everything that runs and close the connections; safe to call twice."""
        if self._http.closed:
            return
        for running in list(self._running.values()):
            await running.abort()
        await self._http.aclose()

    def _check_options(self, api: str, tools: str) -> None:
        if tools not in ("written", "native"):
            raise ConfigurationError(f"tools is {tools!r}: calls are 'written' by the model, or the server's, 'native'")
        if tools == "native" and api != "chat":
            raise ConfigurationError("tools='native' needs api='chat': completions of token ids have no tools")
        if self._target.strict and self._target.server.schemas == "none":
            raise ConfigurationError("strict=True, and this server takes no JSON schema at all: leave out strict=")

    async def _begin(self, request: Request, running: _Running, call: Call) -> tuple[AsyncGenerator[Chunk], Chunk]:
        """Send a request and wait for its first chunk; ask for fewer tokens where the context ends before them."""
        limit = self._target.server.limit
        body, room = call.body, request.max_tokens
        for _ in range(_SHRINKINGS):
            try:
                return await self._begin_once(request.id, running, body, call.reader())
            except EngineRejected as error:
                left = room_left(error)
                if left is None or not 0 < left < room:
                    raise
                body, room = {**body, limit: left}, left
        return await self._begin_once(request.id, running, body, call.reader())

    async def _begin_once(
        self, name: str, running: _Running, body: Body, reader: Reader
    ) -> tuple[AsyncGenerator[Chunk], Chunk]:
        chunks = self._attempt(name, running, body, reader)
        return chunks, await anext(chunks)

    async def _attempt(self, name: str, running: _Running, body: Body, reader: Reader) -> AsyncGenerator[Chunk]:
        try:
            async with AsyncExitStack() as stack:
                events = await self._sent(stack, running, body)
                async for event in events:
                    if event.data == DONE:
                        await _to_the_end(events)
                        break
                    if chunk := reader.read(event.data):
                        yield chunk
                    if running.aborted or reader.over:
                        break
        except EngineError as error:
            if running.aborted:
                raise EngineUnavailable(f"request {name} was aborted") from error
            raise recognised(error) from error
        finally:
            running.response = None
        if running.aborted:
            raise EngineUnavailable(f"request {name} was aborted")
        last = await reader.end()
        if last is None:
            raise EngineUnavailable(f"{self._http.url} ended the stream of {name} before the request was finished")
        yield last

    async def _sent(
        self, stack: AsyncExitStack, running: _Running, body: Body
    ) -> AsyncIterator[httpx2.ServerSentEvent]:
        """Send a request and wait until its answer begins, or it is aborted."""
        if running.aborted:
            raise EngineUnavailable("it was aborted before it was sent")
        try:
            async with asyncio.timeout(None) as running.waiting:
                source = await stack.enter_async_context(self._http.events(self._api.path, body))
        except TimeoutError as error:
            raise EngineUnavailable("it was aborted before it was answered") from error
        finally:
            running.waiting = None
        running.response = source.response
        return aiter(source)

    def _passing(self, error: BaseException, running: _Running) -> bool:
        if self._http.closed or running.aborted:
            return False
        if isinstance(error, EngineOverloaded):
            return (error.retry_after or 0) <= self._longest_wait
        return isinstance(error, EngineUnavailable)


async def _to_the_end(events: AsyncIterator[httpx2.ServerSentEvent]) -> None:
    """Read what may follow the last event, so that the connection can be used again, but wait for nothing."""
    try:
        async with asyncio.timeout(_PATIENCE_AFTER_THE_END):
            async for _ in events:
                pass
    except TimeoutError:
        pass
