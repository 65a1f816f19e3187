"""A request is aborted before its connection closes: SGLang until 0.5.19 forgets a request that has none."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sprint_agents.engine import Chunk
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.errors import EngineProtocolError, EngineTimeout, EngineUnavailable

from .scripted import Act, Exchange, ScriptedServer, answers, begins, hangs, stream
from .test_engine import complete, request

STREAMS = begins(then=Exchange.hold)


@dataclass
class ForgetfulServer(ScriptedServer):
    """Ignores an abort for a request whose connection was closed before; such a request is ``lost``: it never ends."""

    running: set[str] = field(default_factory=set[str])
    lost: set[str] = field(default_factory=set[str])

    async def _act(self, exchange: Exchange) -> None:
        if exchange.path == "/abort_request":
            self.running.discard(exchange.body["rid"])
        if exchange.path != "/generate" or "logit_bias" in exchange.body["sampling_params"]:
            return await super()._act(exchange)
        rid = exchange.body["rid"]
        self.running.add(rid)
        try:
            await super()._act(exchange)
            await exchange.hold()
        finally:
            if rid in self.running:
                self.lost.add(rid)


async def cancelled(engine: SGLangEngine, server: ForgetfulServer) -> None:
    reading = asyncio.create_task(complete(engine))
    await server.arrivals.get()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def cancelled_before_it_is_whole(engine: SGLangEngine, server: ForgetfulServer) -> None:
    reading = asyncio.create_task(complete(engine, request(whole=True)))
    await server.arrivals.get()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def cancelled_while_it_streams(engine: SGLangEngine, _: ForgetfulServer) -> None:
    began = asyncio.Event()

    async def read() -> None:
        async for _ in engine.complete(request()):
            began.set()

    reading = asyncio.create_task(read())
    await began.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def cancelled_at_every_step(engine: SGLangEngine, server: ForgetfulServer) -> None:
    reading = asyncio.create_task(complete(engine))
    await server.arrivals.get()
    while not reading.done():
        reading.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await reading


async def within_a_timeout(engine: SGLangEngine, _: ForgetfulServer) -> None:
    async def read() -> None:
        async with asyncio.timeout(None) as timeout:
            async for _ in engine.complete(request()):
                timeout.reschedule(asyncio.get_running_loop().time())

    with pytest.raises(TimeoutError):
        await read()


async def closed(engine: SGLangEngine, _: ForgetfulServer) -> None:
    chunks = engine.complete(request())
    await anext(chunks)
    await chunks.aclose()


async def with_its_engine(engine: SGLangEngine, _: ForgetfulServer) -> None:
    chunks = engine.complete(request())
    await anext(chunks)
    await engine.aclose()
    with pytest.raises(EngineUnavailable, match="closed"):
        await complete(engine, request(name="r-2"))


async def aborted(engine: SGLangEngine, _: ForgetfulServer) -> None:
    chunks = engine.complete(request())
    await anext(chunks)
    await engine.abort("r-1")
    await chunks.aclose()


async def silent(engine: SGLangEngine, _: ForgetfulServer) -> None:
    with pytest.raises(EngineTimeout, match=r"silent for 0.05 s"):
        await complete(engine)


async def not_understood(engine: SGLangEngine, _: ForgetfulServer) -> None:
    with pytest.raises(EngineProtocolError):
        await complete(engine)


Way = Callable[[SGLangEngine, ForgetfulServer], Awaitable[None]]


@pytest.mark.parametrize(
    ("way", "act", "options"),
    [
        (cancelled, hangs, {}),
        (cancelled, STREAMS, {}),
        (cancelled_before_it_is_whole, hangs, {}),
        (cancelled_before_it_is_whole, STREAMS, {}),
        (cancelled_while_it_streams, STREAMS, {}),
        (cancelled_at_every_step, hangs, {}),
        (within_a_timeout, STREAMS, {}),
        (closed, STREAMS, {}),
        (with_its_engine, STREAMS, {}),
        (aborted, STREAMS, {}),
        (silent, hangs, {"read_timeout": 0.05}),
        (silent, STREAMS, {"read_timeout": 0.05}),
        (not_understood, stream(b"data: {broken\n\n"), {}),
    ],
)
def test_however_a_request_is_left_it_ends(way: Way, act: Act, options: dict[str, Any]) -> None:
    async def main() -> None:
        async with ForgetfulServer([act]) as server, SGLangEngine(server.url, **options) as engine:
            await way(engine, server)
            assert (server.running, server.lost) == (set(), set())

    asyncio.run(main())


def test_a_request_that_runs_when_its_program_ends() -> None:
    async def program(url: str) -> None:
        began = asyncio.Event()
        engine = SGLangEngine(url)

        async def read() -> None:
            async for _ in engine.complete(request()):
                began.set()

        reading.append(asyncio.create_task(read()))
        await began.wait()

    reading: list[asyncio.Task[None]] = []

    async def main() -> None:
        async with ForgetfulServer([STREAMS]) as server:
            await asyncio.to_thread(lambda: asyncio.run(program(server.url)))
            assert reading[0].cancelled()
            assert (server.running, server.lost) == (set(), set())

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_whose_loop_is_closed() -> None:
    """The loop's sockets are left open, as in any program that does so."""

    async def begin(engine: SGLangEngine) -> AsyncGenerator[Chunk]:
        await engine.__aenter__()
        chunks = engine.complete(request())
        await anext(chunks)
        return chunks

    async def main() -> None:
        async with ForgetfulServer([STREAMS]) as server:
            engine = SGLangEngine(server.url)

            def abandon() -> AsyncGenerator[Chunk]:
                loop = asyncio.new_event_loop()
                try:
                    return loop.run_until_complete(begin(engine))
                finally:
                    loop.close()

            chunks = await asyncio.to_thread(abandon)
            await engine.aclose()
            assert (server.running, server.lost) == (set(), set())
            del chunks

    asyncio.run(main())
    gc.collect()


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_a_refused_abort_does_not_end_aborts(status: int) -> None:
    class Refusing(ScriptedServer):
        async def _act(self, exchange: Exchange) -> None:
            refuse = answers({"error": {"message": "not now"}}, status)
            await (refuse(exchange) if exchange.path == "/abort_request" else super()._act(exchange))

    async def main() -> None:
        async with Refusing([STREAMS]) as server, SGLangEngine(server.url) as engine:
            for name in ("r-1", "r-2"):
                chunks = engine.complete(request(name=name))
                await anext(chunks)
                await chunks.aclose()
            assert server.aborts == ["r-1", "r-2"]

    asyncio.run(main())


def test_where_aborts_are_refused_the_connection_is_closed() -> None:
    class Refusing(ScriptedServer):
        async def _act(self, exchange: Exchange) -> None:
            refuse = answers({"detail": "Not Found"}, 404)
            await (refuse(exchange) if exchange.path == "/abort_request" else super()._act(exchange))

    async def main() -> None:
        async with Refusing([hangs]) as server, SGLangEngine(server.url) as engine:
            reading = asyncio.create_task(complete(engine))
            await server.arrivals.get()
            await engine.abort("r-1")
            with pytest.raises(EngineUnavailable, match="was aborted"):
                await reading

    asyncio.run(main())
