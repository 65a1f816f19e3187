"""``OpenAIEngine``: any server that speaks OpenAI's HTTP API, as messages or, where it takes them, as token ids.

Invariants:

- A request is sent again only before its first token arrived.
- These servers abort a request when its connection is closed. Leaving a stream closes the connection, and so does
  ``abort``, whoever reads the stream.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

import httpx2
from pydantic import JsonValue

from sprint_agents.arguments import checked
from sprint_agents.engine import Capabilities, Chunk, Finish, Request
from sprint_agents.engines.event_stream import is_keepalive
from sprint_agents.engines.http import HttpClient
from sprint_agents.engines.remote import RemoteEngine, RunningRequest, counted, first_chunk
from sprint_agents.errors import (
    ConfigurationError,
    EngineError,
    EngineOverloaded,
    EngineRejected,
    EngineUnavailable,
)
from sprint_agents.manifest import Manifest

from .chat import ChatApi
from .completions import CompletionsApi
from .conversation import CALLING_TURNS, TURNS
from .events import DONE, AnswerReader, error_of_event
from .models import check_model, check_tools, with_names
from .rejections import refine, refused_field, room_left, with_hint
from .server import Body, PreparedRequest, Server, ServerName, Target, server_of
from .slots import Slots

_CORRECTIONS = 4
"""How often a refused request is corrected: the name of the limit, a field, the model's bound, the context's end."""
_PATIENCE_AFTER_DONE = 0.2
"""Seconds for a server to end its stream after the last event, so that the connection can be kept."""


@dataclass(slots=True)
class _Connection(RunningRequest):
    """``waiting`` is the timeout around the wait for an answer, ``response`` the answer while it is streamed."""

    waiting: asyncio.Timeout | None = None
    response: httpx2.Response | None = None


@checked
class OpenAIEngine(RemoteEngine[_Connection]):
    """An ``Engine`` on a server with OpenAI's HTTP API: OpenAI's own, vLLM, SGLang, llama.cpp, Ollama and many others.

    ``base_url`` ends with ``/v1``. Name the kind of ``server`` if it is a known one: the engine then uses what that
    server supports beyond the common part. Describe any other by a ``Server``. ``extra`` adds fields to each request;
    None leaves out a field that would be sent otherwise.

    With ``api="chat"``, contexts are conversations: ids are characters, ``capabilities.chat`` says how turns are
    marked, and ``Finish.generated_tokens`` is the server's count. Text outside of turns is the user's. With
    ``api="completions"``, ids are token ids, encoded by the ``tokenizer`` in that checkpoint directory.

    ``tools`` says how an executor's model calls tools: as JSON that it writes (``written``), which every server
    supports, or in the server's own way (``native``: ``tools`` and ``tool_calls``). ``strict`` says when JSON schemas
    are sent in the form of OpenAI's strict mode: always (True), never (False), or if it can express them (None).

    Seconds: ``connect_timeout`` for a connection, ``read_timeout`` for the longest silence before and between tokens
    (hidden reasoning can take long), and ``patience`` for how long a request is sent again that is refused for now or
    breaks before its first token. If a server asks for a longer pause, the request fails at once.

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
        patience: float = 60.0,
    ) -> None:
        if not model:
            raise ConfigurationError("name the model: OpenAIEngine(url, model=…)")
        connected = partial(
            HttpClient,
            api_key=api_key,
            client=client,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        http = connected(base_url)
        super().__init__(http, patience=patience)
        self._http = http
        self._refused: dict[str, str | None] = {}
        self._slots: Slots | None = None
        self._unchecked = True
        self._target = Target(model, server_of(server, base_url), dict(extra or {}), strict)
        self._check_options(api, tools)
        known = Capabilities(schemas=self._target.server.schemas != "none", logprobs=self._target.server.logprobs)
        self._api: ChatApi | CompletionsApi
        if api == "chat":
            self._api = ChatApi(self._target, native_tools=tools == "native")
            turns = CALLING_TURNS if tools == "native" else TURNS
            if self._target.server.slots:
                self._root = connected(base_url.rstrip("/").removesuffix("/v1"))
                self._slots = Slots(self._root)
            self._capabilities = replace(known, chat=turns, caches_running=self._slots is None)
        elif tokenizer is None:
            raise ConfigurationError("api='completions' needs tokenizer=…, the directory of the checkpoint")
        else:
            self._api = CompletionsApi(self._target, Path(tokenizer))
            self._capabilities = replace(known, continues=True)
            self._manifest = Manifest.load(Path(tokenizer))

    @property
    def name(self) -> str:
        """``openai:`` and the model's name."""
        return f"openai:{self._target.model}"

    @property
    def capabilities(self) -> Capabilities:
        """Turns with ``api="chat"`` only; schemas and log-probabilities if the kind of server has them."""
        return self._capabilities

    def check_schema(self, schema: str, *, what: str) -> None:
        """Raise if the model cannot be held to ``schema`` as ``strict`` demands; ``what`` names what it describes.

        Raises:
            ConfigurationError: it cannot.
        """
        self._target.express(schema, what=what)

    async def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``: code points, or token ids. Marks and control tokens are recognised in markup."""
        return await self._api.encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``.

        Raises:
            InvalidRequest: ids outside the vocabulary.
        """
        return await self._api.decode(list(ids))

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the completion of ``request``.

        It ends with reason ``length`` where the model's context ends, even before ``max_tokens``. For ``max_tokens`` 0
        nothing is sent, because these servers cannot compute a prefix alone; llama.cpp computes it and copies it to all
        idle slots (``slots``).

        Raises:
            InvalidRequest: an empty context, ids outside the vocabulary, a negative limit, or an id in use.
            ConfigurationError: the request asks for something that this kind of server cannot do.
            ContextOverflow: the context leaves no room for a token.
            EngineRejected: a wrong key or model, a content filter, or the model refused to answer.
            EngineUnavailable: no connection, the server died, or ``abort`` ended the request.
            EngineError: see the tree in ``errors``.
        """
        prepared = self._api.prepare(request)
        running = _Connection()
        with self._registered(request, running):
            if request.max_tokens == 0:
                yield Chunk((), "", await self._commit(running, prepared))
                return
            chunks, first = await self._retry(lambda: self._begin(request, running, prepared), running=running)
            async with aclosing(chunks):
                yield counted(first, running)
                async for chunk in chunks:
                    yield counted(chunk, running)

    async def _commit(self, running: _Connection, prepared: PreparedRequest) -> Finish:
        """Compute a prefix for later requests, where the server can."""
        finish = None
        if self._slots:
            try:
                async with asyncio.timeout(None) as running.waiting:
                    finish = await self._slots.commit(prepared.body)
            except TimeoutError as error:
                raise EngineUnavailable("it was aborted before it was computed") from error
            finally:
                running.waiting = None
            if why_not := self._slots.why_not:
                note = f"each branch computes the shared prefix again, since the server cannot copy it: {why_not}"
                self._log_once([self._http.mask(note)], url=self._http.url)
        return finish or Finish("length", None, prepared.prompt_tokens, 0, 0)

    def _check_options(self, api: str, tools: str) -> None:
        if tools == "native" and api != "chat":
            raise ConfigurationError("tools='native' needs api='chat': completions of token ids have no tools")
        if self._target.strict and self._target.server.schemas == "none":
            raise ConfigurationError("strict=True, and this server takes no JSON schema at all: leave out strict=")

    async def _begin(
        self, request: Request, running: _Connection, prepared: PreparedRequest
    ) -> tuple[AsyncGenerator[Chunk], Chunk]:
        """Send a request and wait for its first chunk; correct the request if the server says what was wrong."""
        await self._check_server()
        body = prepared.body
        for field in self._refused.keys() & body.keys():
            body = self._without(field, body)
        for _ in range(_CORRECTIONS):
            try:
                return await first_chunk(self._attempt(request.id, running, body, prepared.reader()))
            except EngineRejected as error:
                body = self._corrected(body, await with_names(error, self._http))
        return await first_chunk(self._attempt(request.id, running, body, prepared.reader()))

    async def _check_server(self) -> None:
        """Before the first request, find what the server would ignore.

        Raises:
            EngineRejected: it runs another model.
            ConfigurationError: it would drop the tools.
        """
        if self._unchecked and self._target.server.any_model:
            await check_model(self._http, self._target.model)
            if self._slots and self._capabilities.native_tools:
                await check_tools(self._root, self._target.model)
        self._unchecked = False

    def _corrected(self, body: Body, error: EngineRejected) -> Body:
        """Return the body without the field that the server refused, or with a limit that leaves room for the context.

        Raises:
            EngineRejected: the message does not say how to change the request.
        """
        limit, left = self._target.server.limit, room_left(error)
        limit = self._refused.get(limit) or limit
        room = body.get(limit)
        if left is not None and isinstance(room, int) and 0 < left < room:
            return {**body, limit: left}
        if (refused := refused_field(error, body)) is None:
            raise with_hint(error, self._http.url, body) from error.__cause__
        field, instead = refused
        self._refused[field] = instead
        done = f"{instead!r} is sent instead" if instead else "it is left out"
        self._log_once([f"the server refuses {field!r}, so {done}"], url=self._http.url)
        return self._without(field, body)

    def _without(self, field: str, body: Body) -> Body:
        """Return the body without a field, whose value moves to the field that the server wants instead, if any."""
        instead, value = self._refused[field], body[field]
        rest: Body = {name: kept for name, kept in body.items() if name != field}
        return rest | {instead: value} if instead else rest

    async def _attempt(
        self, request_id: str, running: _Connection, body: Body, reader: AnswerReader
    ) -> AsyncGenerator[Chunk]:
        try:
            async with AsyncExitStack() as stack:
                events = await self._send(stack, running, body)
                async for event in events:
                    if event.data == DONE:
                        await _read_to_end(events)
                        break
                    if event.event == "error":
                        raise error_of_event(event.data)
                    if not is_keepalive(event) and (chunk := reader.read(event.data)):
                        yield chunk
                    if running.aborted or reader.over:
                        break
        except EngineError as error:
            if running.aborted:
                raise EngineUnavailable(f"request {request_id} was aborted") from error
            if isinstance(error, EngineRejected | EngineOverloaded) or not reader.ended:
                raise refine(error) from error
            self._log_once(["the stream broke after the end of the completion"], url=self._http.url)
        finally:
            running.response = None
        if running.aborted:
            raise EngineUnavailable(f"request {request_id} was aborted")
        with self._http.masked():  # a refusal repeats the model's words, which may be the server's
            last = await reader.end()
        self._log_once(map(self._http.mask, reader.notes), url=self._http.url)
        if last is None:
            raise EngineUnavailable(
                f"{self._http.url} ended the stream of {request_id} before the request was finished"
            )
        yield last

    async def _send(
        self, stack: AsyncExitStack, running: _Connection, body: Body
    ) -> AsyncIterator[httpx2.ServerSentEvent]:
        """Send a request and wait until its answer begins, or the request is aborted."""
        if running.aborted:
            raise EngineUnavailable("it was aborted before it was sent")
        try:
            async with asyncio.timeout(None) as running.waiting:
                whole = body["stream"] is False
                source = await stack.enter_async_context(self._http.events(self._api.path, body, whole=whole))
        except TimeoutError as error:
            raise EngineUnavailable("it was aborted before it was answered") from error
        finally:
            running.waiting = None
        running.response = source.response
        return aiter(source)

    async def _end(self, running: _Connection) -> None:
        """Close the request's connection, which ends it at the server."""
        if running.waiting is not None:
            running.waiting.reschedule(asyncio.get_running_loop().time())
        if running.response is not None:
            await running.response.aclose()

    async def aclose(self) -> None:
        """Abort every running request and close the connections; safe to call twice."""
        await super().aclose()
        if self._slots:
            await self._slots.aclose()

    async def _end_at_close(self, running: _Connection) -> None:
        running.aborted = True
        await self._end(running)


async def _read_to_end(events: AsyncIterator[httpx2.ServerSentEvent]) -> None:
    """Read what may follow the last event, so that the connection can be used again, but do not wait for more."""
    try:
        async with asyncio.timeout(_PATIENCE_AFTER_DONE):
            async for _ in events:
                pass
    except TimeoutError:
        pass
