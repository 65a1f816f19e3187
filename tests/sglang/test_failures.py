"""A real server that refuses, stops answering, or dies: the typed error, never a hang."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sprint_agents import Sprint
from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Request, Sampling
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer
from sprint_agents.errors import ContextOverflow, EngineRejected, EngineTimeout, EngineUnavailable, InvalidRequest
from sprint_agents.events import PlannerWrote, RunFinished

from .conftest import START_TIMEOUT, Connect
from .runs import GREEDY

TASK = "Use 48, 24, 12, 2 to make 37."


async def request(engine: SGLangEngine, *, name: str, times: int = 1, max_tokens: int = 2000) -> Request:
    text = "Use 50, 25, 7, 3 to make 81.\n"
    context = Context().extend(await engine.encode(text) * times, text * times)
    return Request(id=name, context=context, max_tokens=max_tokens, sampling=Sampling(temperature=1.0))


async def complete(engine: SGLangEngine, asked: Request) -> list[Chunk]:
    return await exhaust(engine.complete(asked))


async def exhaust(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


@pytest.mark.parametrize("missing", [0, 3], ids=["beyond the limit", "within what the server keeps for itself"])
def test_a_context_that_is_too_long(connect: Connect, missing: int) -> None:
    async def main() -> None:
        async with connect() as (engine, _):
            one = await request(engine, name="one")
            served = await engine.model()
            assert served.context_limit is not None
            ids = (one.context.flatten() * served.context_limit)[: served.context_limit - missing]
            too_long = Request(id="long", context=Context().extend(ids, "…"), max_tokens=9, sampling=one.sampling)
            with pytest.raises(ContextOverflow) as raised:
                await complete(engine, too_long)
            assert raised.value.tokens == len(ids)
            assert raised.value.limit <= len(ids)

    asyncio.run(main())


def test_a_completion_ends_where_the_context_ends(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, _):
            one = await request(engine, name="one")
            served = await engine.model()
            assert served.context_limit is not None
            ids = (one.context.flatten() * served.context_limit)[: served.context_limit - 40]
            asked = Request(id="end", context=Context().extend(ids, "…"), max_tokens=2000, sampling=Sampling())
            chunks = await complete(engine, asked)
            assert sum(len(chunk.ids) for chunk in chunks) <= 40
            assert chunks[-1].finish is not None

    asyncio.run(main())


def test_an_id_outside_the_vocabulary_never_reaches_the_server(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, _):
            size = (await engine.model()).vocabulary_size
            assert size is not None
            wrong = Request(
                id="wrong", context=Context().extend([size], "?"), max_tokens=1, sampling=Sampling(temperature=0)
            )
            with pytest.raises(InvalidRequest, match=f"has {size} ids"):
                await complete(engine, wrong)
            # The last id there is does no harm.
            right = Request(id="right", context=Context().extend([size - 1], "?"), max_tokens=1, sampling=Sampling())
            assert await complete(engine, right)

    asyncio.run(main())


def test_the_server_tells_the_size_of_its_vocabulary(
    connect: Connect, server: SGLangServer, checkpoint: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        async with connect() as (engine, _):
            on_disk = (await engine.model()).vocabulary_size
            assert on_disk is not None
            # Nothing but a tokenizer is on this machine.
            shutil.copy(checkpoint / "tokenizer.json", tmp_path)
            async with SGLangEngine(server.url, tokenizer=tmp_path) as remote:
                assert (await remote.model()).vocabulary_size == on_disk

    asyncio.run(main())


def test_a_refusal_has_the_servers_words(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, _):
            asked = await request(engine, name="refused")
            many = Request(
                id="refused",
                context=asked.context,
                max_tokens=1,
                sampling=asked.sampling,
                stop_texts=tuple(f"stop {number}" for number in range(100)),
            )
            with pytest.raises(EngineRejected, match="stop"):
                await complete(engine, many)

    asyncio.run(main())


def test_a_server_that_stops_answering(connect: Connect, server: SGLangServer) -> None:
    async def main() -> None:
        async with connect(read_timeout=3.0, abort_timeout=0.2) as (engine, counters):
            chunks = engine.complete(await request(engine, name="frozen"))
            await anext(chunks)
            os.killpg(server.process.pid, signal.SIGSTOP)
            try:
                with pytest.raises(EngineTimeout, match=r"silent for 3 s"):
                    await exhaust(chunks)
            finally:
                os.killpg(server.process.pid, signal.SIGCONT)
            await counters.idle()

    asyncio.run(main())


def test_a_run_survives_the_restart_of_its_server(server: SGLangServer, checkpoint: Path) -> None:
    """The server is killed while the planner writes, and comes back at the same port with an empty cache."""

    async def main() -> None:
        async with (
            SGLangEngine(server.url, tokenizer=checkpoint, patience=START_TIMEOUT) as patient,
            SGLangEngine(server.url, tokenizer=checkpoint, patience=0) as impatient,
        ):
            undisturbed = await Sprint(patient, sampling=GREEDY).run(TASK)
            chunks = impatient.complete(await request(impatient, name="killed"))
            await anext(chunks)

            async def restart() -> None:
                os.kill(server.process.pid, signal.SIGKILL)
                with pytest.raises(EngineUnavailable):
                    await exhaust(chunks)
                await server.stop()
                with pytest.raises(EngineUnavailable, match="no connection"):
                    await complete(impatient, await request(impatient, name="refused"))
                await server.start()

            async with asyncio.TaskGroup() as tasks, Sprint(patient, sampling=GREEDY).stream(TASK) as events:
                restarted: asyncio.Task[None] | None = None
                async for event in events:
                    if isinstance(event, PlannerWrote) and restarted is None:
                        restarted = tasks.create_task(restart())
                    if isinstance(event, RunFinished):
                        run = event.run
            assert run.transcript == undisturbed.transcript
            assert run.usage.failures == 0
            assert run.usage.retries > 0

    asyncio.run(main())
