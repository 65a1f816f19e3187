"""Many requests at once on one server."""

import asyncio
from itertools import count

from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.engines.sglang import SGLangEngine

from .conftest import Connect

REQUESTS = 64
TOKENS = 24
_numbers = count()


async def complete(engine: SGLangEngine, number: int) -> list[int]:
    text = f"Use {50 + number % 10}, 25, 7, 3 to make 81.\n"
    context = Context().extend(await engine.encode(text), text)
    request = Request(
        id=f"load-{next(_numbers):06}", context=context, max_tokens=TOKENS, sampling=Sampling(temperature=0)
    )
    return [token async for chunk in engine.complete(request) for token in chunk.ids]


def test_64_at_once_get_what_each_gets_alone_and_leave_no_connection(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, counters):
            together = await asyncio.gather(*(complete(engine, number) for number in range(REQUESTS)))
            assert 1 <= counters.connections() <= REQUESTS
            assert together[:10] == [await complete(engine, number) for number in range(10)]
            assert [ids for ids in together if not ids] == []
            for number in range(10, REQUESTS):
                assert together[number] == together[number % 10]
            await engine.aclose()
            assert counters.connections() == 0

    asyncio.run(main())


def test_more_requests_than_connections_wait_for_their_turn(connect: Connect) -> None:
    async def main() -> None:
        async with connect(max_connections=4) as (engine, counters):
            await asyncio.gather(*(complete(engine, number) for number in range(16)))
            assert counters.connections() <= 4

    asyncio.run(main())
