"""Connections in many small pools, since a pool looks at all of its connections whenever a request begins or ends.

With one pool for 256 requests at a time, this takes more of a processor's time than everything else of a request.

Invariants:

- At most ``max_connections`` requests are sent at the same time. The others wait, in the order in which they came.
- A request goes to the first pool that has room, so few connections are open when few requests are running.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx2

_LARGEST = 8
"""The most connections of a pool."""


@dataclass(slots=True)
class _Pool:
    """A pool, and how many requests it has."""

    transport: httpx2.AsyncHTTPTransport
    active: int = 0


class PooledTransport(httpx2.AsyncBaseTransport):
    """Sends the requests of one event loop through pools that ``encrypted`` says whether to prepare for TLS."""

    def __init__(self, *, max_connections: int, encrypted: bool) -> None:
        self._free = asyncio.Semaphore(max_connections)
        self._verify = httpx2.create_ssl_context(verify=encrypted)
        self._pools: list[_Pool] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; its place is free again when the answer is closed."""
        await self._free.acquire()
        pool = next((pool for pool in self._pools if pool.active < _LARGEST), None) or self._add()
        pool.active += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            self._release(pool)
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Answer(response.stream, lambda: self._release(pool))
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.transport.aclose()

    def _add(self) -> _Pool:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=_LARGEST)
        pool = _Pool(httpx2.AsyncHTTPTransport(verify=self._verify, limits=limits))
        self._pools.append(pool)
        return pool

    def _release(self, pool: _Pool) -> None:
        pool.active -= 1
        self._free.release()


class _Answer(httpx2.AsyncByteStream):
    """The body of an answer, which calls ``closed`` once."""

    def __init__(self, stream: httpx2.AsyncByteStream, closed: Callable[[], None]) -> None:
        self._stream = stream
        self._closed: Callable[[], None] | None = closed

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        closed, self._closed = self._closed, None
        try:
            await self._stream.aclose()
        finally:
            if closed:
                closed()
