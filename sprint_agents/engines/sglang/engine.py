"""``SGLangEngine``: an SGLang server over its native ``/generate``, token ids in, token ids out.

Invariants:

- No token is drawn twice. A request that was refused, or broke off before its first token, is sent again; one that
  broke off later goes on by a new request, behind the tokens that had arrived (``written``).
- A request whose stream is left before the server ended it is aborted at the server by its own id, also while the
  reading task is being cancelled; that takes ``abort_timeout`` at most.
- Every attempt has an id of its own at the server, and none is a prefix of another: SGLang aborts by prefix, and two
  seconds after a stream has ended it aborts its id once more, whatever runs under it by then.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx2
import structlog

from sprint_agents.dialects.conversation import turns_of
from sprint_agents.engine import Capabilities, ChatTurns, Chunk, Engine, Request
from sprint_agents.engines.chat_template import ChatTemplate, turns_of_checkpoint, with_chat
from sprint_agents.engines.http import Http
from sprint_agents.errors import (
    EngineError,
    EngineOverloaded,
    EngineRejected,
    EngineUnavailable,
    InvalidRequest,
)
from sprint_agents.manifest import Manifest
from sprint_agents.retries import retry

from .body import body_of, check_ids
from .chat import Renderings, renderings
from .frames import DONE, FrameReader, recognised
from .model import ServedModel, ask
from .tokenizer import LocalTokenizer, ServerTokenizer, Tokenizer
from .written import Written

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Running:
    """A request under way: the latest attempt's id at the server, and what became of it.

    ``aborted`` once ``abort`` was called for the request, ``broke`` if the attempt's stream ended without a word.
    """

    rid: str = ""
    aborted: bool = False
    broke: bool = False


class SGLangEngine(Engine):
    """An ``Engine`` on an SGLang server, or on SGLang's router in front of many.

    Inside ``async with`` connections are kept between requests; entering it asks the server for its model. Outside,
    each request has a connection of its own.

    ``tokenizer`` is the checkpoint's directory on this machine: texts are encoded there, else by the server. A
    ``client`` of your own brings its own proxies, certificates and limits, and is not closed by the engine.

    Seconds: ``connect_timeout`` for a connection, ``read_timeout`` for the longest silence before and between tokens,
    ``abort_timeout`` for an abort. ``attempts`` in all for a request that was refused or broke off: sent again, or,
    where tokens had arrived, gone on with behind them. A server that asks to come back later than ``longest_wait`` is
    believed, and not asked again.

    ``chat`` says how the turns of conversations are marked, if that is not just the server's chat template, or that in
    the ``tokenizer`` directory.

    A ``Sampling.seed`` is sent, but SGLang heeds it only if started with ``--enable-deterministic-inference``.

    >>> SGLangEngine("http://127.0.0.1:30000").name
    'sglang:http://127.0.0.1:30000'
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tokenizer: str | PathLike[str] | None = None,
        client: httpx2.AsyncClient | None = None,
        max_connections: int = 1024,
        connect_timeout: float = 5.0,
        read_timeout: float = 120.0,
        abort_timeout: float = 3.0,
        attempts: int = 3,
        longest_wait: float = 30.0,
        chat: ChatTemplate | None = None,
    ) -> None:
        self._http = Http(
            url,
            api_key=api_key,
            client=client,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        self._abort_timeout = abort_timeout
        self._attempts = attempts
        self._longest_wait = longest_wait
        self._directory = Path(tokenizer) if tokenizer is not None else None
        self._tokenizer: Tokenizer
        self._tokenizer = LocalTokenizer(self._directory) if self._directory else ServerTokenizer(self._http)
        self._manifest = Manifest.load(self._directory) if self._directory else None
        self._chat = chat or ChatTemplate()
        self._renderings: Renderings | None = None
        self._model: ServedModel | None = None
        self._capabilities: Capabilities | None = None
        self._running: dict[str, _Running] = {}
        self._aborts = True

    @property
    def name(self) -> str:
        """``sglang:`` and the model's name, or the URL as long as the server was not asked."""
        return f"sglang:{self._model.name if self._model else self._http.url}"

    @property
    def manifest(self) -> Manifest | None:
        """``sprint.json`` of the ``tokenizer`` directory, or, once asked, of a server's checkpoint on this machine."""
        return self._manifest

    @property
    def capabilities(self) -> Capabilities:
        """ChatTurns as the chat template marks them, once the server was asked; schemas by its grammar backend.

        SGLang's radix cache gets what a request generated when the request ends, so ``caches_running`` is False.
        """
        if self._capabilities is None:
            self._capabilities = with_chat(Capabilities(schemas=True, caches_running=False), self._turns)
        return self._capabilities

    async def __aenter__(self) -> Self:
        """Keep connections from now on, and ask the server for its model.

        Raises:
            EngineError: the server is not ready.
        """
        self._http.open()
        try:
            await self.model()
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, special tokens recognised, none added."""
        return await self._retry(lambda: self._tokenizer.encode(text)) if text else []

    async def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``, special tokens shown.

        Raises:
            InvalidRequest: ids outside the vocabulary.
        """
        check_ids(ids, await self.model())
        return await self._retry(lambda: self._tokenizer.decode(ids)) if ids else ""

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the completion of ``request``.

        It ends with reason ``length`` where the model's context ends, even before ``max_tokens``. Where a stream broke
        off and was gone on with, ``finish`` counts the last request alone.

        Raises:
            InvalidRequest: an empty context, ids outside the vocabulary, a negative limit, or an id in use.
            ContextOverflow: the context leaves no room for a token.
            EngineUnavailable: no connection, the server died, or the request was aborted by ``abort``.
            EngineError: see the tree in ``errors``.
        """
        body = body_of(request, await self.model())
        if request.id in self._running:
            raise InvalidRequest(f"request id {request.id!r} is in use: give every request an id of its own")
        self._running[request.id] = running = _Running()
        written = Written(request)
        try:
            while True:
                begin = partial(self._begin, request.id, running, body)
                chunks, first = await self._retry(begin, running=running)
                try:
                    async with aclosing(chunks):
                        yield written.add(first)
                        async for chunk in chunks:
                            yield written.add(chunk)
                    return
                except EngineUnavailable as error:
                    body = await self._rest(written, running, error)
        finally:
            del self._running[request.id]

    async def abort(self, request_id: str) -> None:
        """End a request of this engine, whoever reads it; unknown and finished ids are ignored."""
        if running := self._running.get(request_id):
            running.aborted = True
            await self._abort(running.rid)

    async def aclose(self) -> None:
        """Abort everything that runs and close the connections; safe to call twice."""
        if self._http.closed:
            return
        try:
            async with asyncio.TaskGroup() as aborts:
                for running in self._running.values():
                    aborts.create_task(self._abort_quietly(running.rid))
        finally:
            await self._http.aclose()

    async def model(self) -> ServedModel:
        """Ask the server which model it runs, unless it has told.

        Raises:
            EngineError: the server is not ready.
        """
        if self._model is None:
            self._model = model = await self._retry(lambda: ask(self._http, self._directory))
            if self._manifest is None and model.directory:
                self._manifest = Manifest.load(model.directory)
            if isinstance(self._tokenizer, ServerTokenizer) and self._chat.template is None:
                self._renderings = await renderings(self._http, self._tokenizer, self._chat.variables)
            self._capabilities = None
        return self._model

    def _turns(self) -> ChatTurns | None:
        """Find how the chat template marks turns; None if there is none, or the server was not asked yet.

        Raises:
            InvalidCheckpoint: the template rewrites history, or is none.
        """
        if self._renderings is not None:
            return turns_of(self._renderings, history=self._chat.history)
        directory = self._directory or (self._model.directory if self._model else None)
        return turns_of_checkpoint(directory, self._chat, extra="sglang")

    async def _begin(
        self, request_id: str, running: _Running, body: dict[str, object]
    ) -> tuple[AsyncGenerator[Chunk], Chunk]:
        """Send a request and wait for its first chunk."""
        running.rid = server_id(request_id)
        chunks = self._attempt(running, {"rid": running.rid, **body})
        return chunks, await anext(chunks)

    async def _rest(self, written: Written, running: _Running, error: EngineUnavailable) -> dict[str, object]:
        """Write the request that goes on where one broke off, or raise ``error`` where none can."""
        passing = running.broke and not (running.aborted or self._http.closed)
        if not (passing and written.parts < self._attempts and (rest := await written.rest(self.decode))):
            raise error
        _log.warning("engine.resumed", url=self._http.url, rid=running.rid, tokens=len(written.ids), error=str(error))
        return body_of(rest, await self.model())

    async def _attempt(self, running: _Running, body: dict[str, object]) -> AsyncGenerator[Chunk]:
        reader = FrameReader()
        last: Chunk | None = None
        running.broke = False
        try:
            async with self._http.events("/generate", body) as events:
                async for event in events:
                    if running.aborted:
                        # The server may have got the abort before the request, and ignored it.
                        raise EngineUnavailable(f"request {running.rid} was aborted")
                    if event.data == DONE or (chunk := reader.read(event.data)) is None:
                        continue
                    if chunk.finish is None:
                        yield chunk
                    else:
                        # Read on to the very end, so that the connection can be used again.
                        last = chunk
        except (EngineRejected, EngineOverloaded) as error:
            reader.ended = True
            raise recognised(error) from error
        except EngineUnavailable:
            if last is None:  # else the server had said all that there was to say
                raise
        finally:
            running.broke = not reader.ended
            if running.broke:
                await self._abort_surely(running.rid)
        if last is None:
            raise EngineUnavailable(
                f"{self._http.url} ended the stream of {running.rid} before the request was finished"
            )
        yield last

    async def _abort_surely(self, rid: str) -> None:
        """End a request that nobody reads any more, however often the reading task is cancelled meanwhile."""
        abort = asyncio.create_task(self._abort_quietly(rid))
        cancelled: asyncio.CancelledError | None = None
        while not abort.done():
            try:
                await asyncio.wait([abort])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled:
            raise cancelled

    async def _abort(self, rid: str) -> None:
        """End a request at the server; SGLang's router knows no aborts, and ends what nobody is connected to."""
        if self._aborts:
            try:
                await self._http.post("/abort_request", {"rid": rid}, urgent=True)
            except EngineRejected:
                self._aborts = False

    async def _abort_quietly(self, rid: str) -> None:
        if self._http.closed:
            return
        try:
            async with asyncio.timeout(self._abort_timeout):
                await self._abort(rid)
        except (EngineError, TimeoutError) as error:
            _log.warning("engine.abort_failed", url=self._http.url, rid=rid, error=str(error) or "timed out")

    async def _retry(self, work: Callable[[], Awaitable[T]], *, running: _Running | None = None) -> T:
        def passing(error: BaseException) -> bool:
            if self._http.closed or (running and running.aborted):
                return False
            if isinstance(error, EngineOverloaded):
                return (error.retry_after or 0) <= self._longest_wait
            return isinstance(error, EngineUnavailable)

        return await retry(work, attempts=self._attempts, when=passing)


def server_id(request_id: str) -> str:
    """Return an id for a request at the server: never the same twice, and never a prefix of another."""
    return f"{len(request_id)}:{request_id}:{secrets.token_hex(4)}"
