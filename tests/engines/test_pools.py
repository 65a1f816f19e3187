"""Many small pools of connections behave like one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from sprint_agents.engines.http import HttpClient


@dataclass
class Gate:
    """A server that answers once it is open, and counts connections and the requests that wait at it."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    arrivals: asyncio.Queue[None] = field(default_factory=asyncio.Queue[None])
    connections: int = 0
    waiting: int = 0
    most: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.waiting += 1
                self.most = max(self.most, self.waiting)
                self.arrivals.put_nowait(None)
                await self.opened.wait()
                self.waiting -= 1
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def play(scene: Callable[[HttpClient, Gate], Awaitable[None]], *, max_connections: int) -> None:
    async def main() -> None:
        gate = Gate()
        async with await asyncio.start_server(gate.serve, "127.0.0.1", 0) as server:
            http = HttpClient(
                f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
                api_key=None,
                client=None,
                max_connections=max_connections,
                connect_timeout=60,
                read_timeout=60,
            )
            await http.open()
            try:
                await scene(http, gate)
            finally:
                await http.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("most", [1, 8, 20])
def test_no_more_connections_than_allowed(most: int) -> None:
    async def scene(http: HttpClient, gate: Gate) -> None:
        asked = [asyncio.create_task(http.get("/")) for _ in range(50)]
        for _ in range(most):
            await gate.arrivals.get()
        gate.opened.set()
        assert await asyncio.gather(*asked) == [{}] * 50
        assert gate.most <= gate.connections == most

    play(scene, max_connections=most)


def test_one_request_after_the_other_needs_one_connection() -> None:
    async def scene(http: HttpClient, gate: Gate) -> None:
        gate.opened.set()
        for _ in range(30):
            assert await http.get("/") == {}
        assert gate.connections == 1

    play(scene, max_connections=1024)


def test_a_request_that_is_cancelled_leaves_its_place() -> None:
    async def scene(http: HttpClient, gate: Gate) -> None:
        running, waiting = asyncio.create_task(http.get("/")), asyncio.create_task(http.get("/"))
        await gate.arrivals.get()
        for task in (waiting, running):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        gate.opened.set()
        assert await http.get("/") == {}

    play(scene, max_connections=1)
