"""The part that all engines on servers share: requests in progress, retries, and closing.

Invariants:

- Two requests with the same id never run at the same time.
- ``aclose`` ends every request that is still running before it closes the connections, and admits no others meanwhile.
- No request is sent again after it was aborted or the engine was closed.
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from sprint_agents.arguments import at_least
from sprint_agents.engine import Chunk, Engine, Request
from sprint_agents.errors import EngineOverloaded, EngineUnavailable, InvalidRequest
from sprint_agents.logs import log
from sprint_agents.manifest import Manifest
from sprint_agents.retries import retry

T = TypeVar("T")

_MOST_NOTES = 100
_FIRST_PATIENCE = 1.0
"""Seconds for a server that has never answered: its URL may be wrong."""


class Connections(Protocol):
    """What an engine closes at the end: its connections; ``closed`` once it has."""

    closed: bool

    async def open(self) -> None:
        """Keep connections between the requests of the running loop until ``aclose``."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


@dataclass(slots=True)
class RunningRequest:
    """A request in progress; ``aborted`` once ``abort`` was called for it; ``retries`` were sent so far."""

    aborted: bool = False
    retries: int = 0


RunningT = TypeVar("RunningT", bound=RunningRequest)


class RemoteEngine(Engine, Generic[RunningT]):
    """The base of engines that talk to a server over ``connections``.

    A subclass keeps what it must know to end a request in its own kind of ``RunningRequest``. ``patience`` is for how
    many seconds a request is sent again that makes no progress, from its first failure on. A server that has never
    answered gets a second.
    """

    def __init__(self, connections: Connections, *, patience: float) -> None:
        at_least(0, patience=patience)
        self._connections = connections
        self._patience = patience
        self._manifest: Manifest | None = None
        self._running: dict[str, RunningT] = {}
        self._logged: set[str] = set()
        self._closing = False
        self._answered = False

    @property
    def manifest(self) -> Manifest | None:
        """The ``sprint.json`` of the checkpoint, if the engine knows the checkpoint's directory."""
        return self._manifest

    async def __aenter__(self) -> Self:
        """Keep connections open between requests from now on."""
        await self._connections.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def abort(self, request_id: str) -> None:
        """End a request of this engine, whoever reads it; unknown and finished ids are ignored."""
        if running := self._running.get(request_id):
            running.aborted = True
            await self._end(running)

    async def aclose(self) -> None:
        """Abort every running request and close the connections; safe to call twice."""
        if self._closing:
            return
        self._closing = True
        try:
            async with asyncio.TaskGroup() as endings:
                for running in self._running.values():
                    endings.create_task(self._end_at_close(running))
        finally:
            await self._connections.aclose()

    @abstractmethod
    async def _end(self, running: RunningT) -> None:
        """End a request at the server."""

    @abstractmethod
    async def _end_at_close(self, running: RunningT) -> None:
        """End a request at the server because the engine is being closed."""

    @contextmanager
    def _registered(self, request: Request, running: RunningT) -> Generator[None]:
        """Reserve the id of ``request`` inside the block.

        Raises:
            InvalidRequest: the id is in use.
            EngineUnavailable: the engine is being closed.
        """
        if self._closing:
            raise EngineUnavailable(f"the engine {self.name} is closed")
        if request.id in self._running:
            raise InvalidRequest(f"request id {request.id!r} is in use: give every request its own id")
        self._running[request.id] = running
        try:
            yield
        finally:
            del self._running[request.id]

    def _log_once(self, notes: Iterable[str], *, url: str) -> None:
        """Log what was odd about an answer; most servers that are odd are so in every answer."""
        for note in notes:
            if note not in self._logged and len(self._logged) < _MOST_NOTES:
                self._logged.add(note)
                log("warning", "engine.odd_answer", logger=__name__, engine=self.name, url=url, note=note)

    async def _retry(
        self,
        work: Callable[[], Awaitable[T]],
        *,
        running: RunningRequest | None = None,
        after: BaseException | None = None,
    ) -> T:
        """Await ``work()`` again while its error may pass, ``running`` was not aborted, and ``patience`` lasts.

        ``after`` is the error of an attempt that the caller has made.
        """
        began = asyncio.get_running_loop().time()

        def may_pass(error: BaseException) -> bool:
            if self._closing or (running and running.aborted):
                return False
            if isinstance(error, EngineUnavailable) and not self._answered:
                return asyncio.get_running_loop().time() - began < _FIRST_PATIENCE
            return isinstance(error, EngineUnavailable | EngineOverloaded)

        async def attempt() -> T:
            result = await work()
            self._answered = True
            return result

        def count(_: int, __: BaseException) -> None:
            if running:
                running.retries += 1

        return await retry(attempt, patience=self._patience, when=may_pass, before_retry=count, after=after)


def counted(chunk: Chunk, running: RunningRequest) -> Chunk:
    """Return ``chunk`` with the retries of its request, if it is the last one."""
    if chunk.finish is not None and running.retries:
        return replace(chunk, finish=replace(chunk.finish, retries=running.retries))
    return chunk


async def first_chunk(chunks: AsyncGenerator[Chunk]) -> tuple[AsyncGenerator[Chunk], Chunk]:
    """Wait for the first chunk; return the generator of the others with it."""
    return chunks, await anext(chunks)


def check_request(request: Request, ids: Sequence[int]) -> None:
    """Refuse a request that no server accepts; ``ids`` are those of its context.

    Raises:
        InvalidRequest: the context is empty, or the limit is negative.
    """
    if not ids:
        raise InvalidRequest("the context is empty: a model needs a token to begin with")
    if request.max_tokens < 0:
        raise InvalidRequest(f"max_tokens is {request.max_tokens}: it cannot be negative")
