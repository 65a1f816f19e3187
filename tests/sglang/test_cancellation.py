"""However a request is left, the server soon releases everything, including its key-value pool."""

import asyncio
import random
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Request, Sampling
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.errors import EngineUnavailable

from .conftest import Connect
from .counters import SECONDS_TO_SETTLE

LONG = 3000
CANCELLATIONS = 100
WIDEST = 16
MOST_SEEN = 20
_numbers = count()


async def request(engine: SGLangEngine, *, whole: bool = False, **changes: Any) -> Request:
    text = "Use 50, 25, 7, 3 to make 81.\n"
    context = Context().extend(await engine.encode(text), text)
    name, sampling = f"cancel-{next(_numbers):06}", Sampling(temperature=1.0)
    return Request(id=name, context=context, max_tokens=LONG, sampling=sampling, whole=whole, **changes)


async def exhaust(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


async def cancel_some(engine: SGLangEngine, dice: random.Random, *, most: int) -> int:
    """Cancel up to ``most`` requests before anything was sent, before the first token, or later; return how many."""
    width = min(dice.randint(1, WIDEST), most)
    seen: asyncio.Queue[None] = asyncio.Queue()

    async def read(asked: Request) -> None:
        try:
            async for _ in engine.complete(asked):
                seen.put_nowait(None)
        finally:
            for _ in range(MOST_SEEN):  # no caller waits for the tokens of a text that ended early
                seen.put_nowait(None)

    whole = dice.random() < 0.5
    requests = [await request(engine, whole=whole) for _ in range(width)]
    readers = [asyncio.create_task(read(asked)) for asked in requests]
    for _ in range(dice.choice([0, 1, 3, 10, 30, 100])):
        await asyncio.sleep(0)  # a step of the event loop, no time
    for _ in range(dice.choice([0, 0, 0, 1, 5, MOST_SEEN]) * width):
        await seen.get()
    for reader in readers:
        reader.cancel()
    for error in await asyncio.gather(*readers, return_exceptions=True):
        # A model may end a text early; nothing else may come before the cancellation.
        assert error is None or isinstance(error, asyncio.CancelledError)
    return width


def test_random_cancellations(connect: Connect) -> None:
    dice = random.Random(0)

    async def main() -> None:
        async with connect() as (engine, counters):
            done = 0
            while done < CANCELLATIONS:
                done += await cancel_some(engine, dice, most=CANCELLATIONS - done)
                await counters.idle(within=SECONDS_TO_SETTLE)

    asyncio.run(main())


def test_closing_the_stream(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, counters):
            chunks = engine.complete(await request(engine))
            await anext(chunks)
            assert (await counters.load()).requests == 1
            await chunks.aclose()
            await counters.idle(within=SECONDS_TO_SETTLE)

    asyncio.run(main())


def test_whole_completions_that_are_left_count_all_that_was_generated(connect: Connect) -> None:
    async def main() -> None:
        extra = {"sampling_params": {"ignore_eos": True}}
        async with connect(extra=extra, abort_timeout=120) as (engine, counters):
            before = await counters.generated()
            counts: list[int] = []

            async def leave(asked: Request, *, chunks: int) -> None:
                stream = engine.complete(asked)
                counts.extend([len((await anext(stream)).ids) for _ in range(chunks)])
                await stream.aclose()

            requests = [await request(engine, whole=True, missed=counts.append) for _ in range(4)]
            await asyncio.gather(*(leave(asked, chunks=number + 1) for number, asked in enumerate(requests)))
            await counters.idle()
            assert await counters.generated() == before + sum(counts)

    asyncio.run(main())


def test_an_abort_hits_its_own_request_alone(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, counters):
            template = await request(engine)
            streams = {
                name: engine.complete(
                    Request(id=name, context=template.context, max_tokens=LONG, sampling=template.sampling)
                )
                for name in ("t-1", "t-10", "t-1:")
            }
            for chunks in streams.values():
                await anext(chunks)
            await engine.abort("t-1")
            with pytest.raises(EngineUnavailable, match="aborted"):
                await exhaust(streams["t-1"])
            for name in ("t-10", "t-1:"):
                await anext(streams[name])
                await streams[name].aclose()
            await counters.idle(within=SECONDS_TO_SETTLE)

    asyncio.run(main())


def test_closing_the_engine(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, counters):
            streams = [engine.complete(await request(engine)) for _ in range(4)]
            for chunks in streams:
                await anext(chunks)
            await engine.aclose()
            await counters.idle(within=SECONDS_TO_SETTLE)
            for chunks in streams:
                with pytest.raises(EngineUnavailable):
                    await exhaust(chunks)

    asyncio.run(main())
