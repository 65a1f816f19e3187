"""Many requests at once, beginning and ending at random, in a cache that is too small for them."""

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents.engines.local import LocalEngine
from sprint_agents.errors import EngineUnavailable
from sprint_agents.testing.contract import complete, request_of

from .test_engine import MODELS, Generate, Make, check_at_rest, context_of, some_ids

pytestmark = pytest.mark.local


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_and_goes_every_completion_is_right(
    seed: int, checkpoints: dict[str, Path], make_engine: Make, generate: Generate
) -> None:
    choose = random.Random(seed)
    known = [[choose.randrange(4, 200)]]
    done: list[tuple[list[int], list[int]]] = []

    async def go_on_somewhere(engine: LocalEngine) -> None:
        for _ in range(choose.randrange(6)):
            await asyncio.sleep(0)
        start = choose.choice(known)
        start = start[: choose.randrange(1, len(start) + 1)] if choose.random() < 0.5 else start
        ids = (start + choose.choices(range(4, 12), k=choose.choice([0, 1, 2, 5, 30])))[:180]
        answer = await complete(engine, request_of(context_of(*ids), max_tokens=choose.choice([1, 5, 30, 60])))
        known.append(ids + answer.ids)
        done.append((ids, answer.ids))

    async def main() -> None:
        async with make_engine(
            checkpoints[MODELS[seed]],
            cache_tokens=choose.choice([250, 600, 5000]),
            max_running=choose.choice([3, 8, 40]),
            prefill_chunk=choose.choice([5, 16, 64]),
        ) as engine:
            for _ in range(4):
                tasks = [asyncio.create_task(go_on_somewhere(engine)) for _ in range(15)]
                for task in tasks[:4]:
                    for _ in range(choose.randrange(30)):
                        await asyncio.sleep(0)
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
                check_at_rest(engine.statistics())

    asyncio.run(main())
    assert len(done) >= 4 * 11
    for ids, output in done:
        assert output == generate(ids, len(output), model=MODELS[seed])


@pytest.fixture(scope="module")
def shared_engine(checkpoint):
    engine = LocalEngine(checkpoint, threads=1, cache_tokens=300, max_running=4, prefill_chunk=16)
    yield engine
    asyncio.run(engine.aclose())


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 40), st.sampled_from(["read", "cancel", "close", "abort"])),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 30),
)
def test_however_requests_end_nothing_stays(
    shared_engine: LocalEngine, plans: list[tuple[int, int, str]], base: int
) -> None:
    """Each plan: the request's own prompt tokens, the tokens after which its reader stops, and how."""

    async def run(own: int, after: int, how: str) -> None:
        request = request_of(context_of(*some_ids(base + 1), *some_ids(own, seed=own)), max_tokens=30)
        stream, count = shared_engine.complete(request), 0
        try:
            async for chunk in stream:
                count += len(chunk.ids)
                if count >= after and how == "close":
                    break
                if count >= after and how == "abort":
                    await shared_engine.abort(request.id)
        except EngineUnavailable:
            assert how == "abort"
        finally:
            await stream.aclose()

    async def main() -> None:
        tasks = {asyncio.create_task(run(*plan)): plan for plan in plans}
        for task, (_, after, how) in tasks.items():
            if how == "cancel":
                for _ in range(after):
                    await asyncio.sleep(0)
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        check_at_rest(shared_engine.statistics())

    asyncio.run(main())
