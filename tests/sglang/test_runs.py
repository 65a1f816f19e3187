"""Whole runs of the shipped model on a real server: the same tokens as in process, prefixes computed once."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from sprint_agents import Answer, Limits, Plan, Sprint
from sprint_agents.engine import Chunk, Engine, Finish, Request
from sprint_agents.engines import LocalEngine
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer
from sprint_agents.events import StageFinished

from .conftest import Connect
from .runs import GREEDY, assert_written_is_read_once, computed, held_out, most_of_its_own

PROBLEMS = 50
RUNS = 64
TASK = "Use 48, 24, 12, 2 to make 37."


async def trajectories(engine: Engine, tasks: Sequence[str], *, at_once: int) -> list[list[int]]:
    """The token ids of each task's run, from the first plan to the answer."""
    gate = asyncio.Semaphore(at_once)

    async def one(task: str) -> list[int]:
        async with gate, Sprint(engine, sampling=GREEDY).stream(task) as events:
            return [token async for event in events if isinstance(event, StageFinished) for token in event.token_ids]

    return await asyncio.gather(*(one(task) for task in tasks))


def test_the_same_trajectory_as_in_process(connect: Connect, checkpoint: Path) -> None:
    tasks = held_out(PROBLEMS, seed=3)

    async def main() -> None:
        async with connect() as (engine, _), LocalEngine(checkpoint) as local:
            served = await trajectories(engine, tasks, at_once=8)
            assert served == await trajectories(local, tasks, at_once=8)
            assert all(len(ids) > 10 for ids in served)

    asyncio.run(main())


def test_64_runs_at_once_are_what_each_is_alone_and_leave_no_connection(connect: Connect) -> None:
    tasks = held_out(RUNS, seed=4)

    async def main() -> None:
        async with connect() as (engine, counters):
            async with Sprint(engine, sampling=GREEDY).map(tasks, concurrency=RUNS) as finished:
                runs = {run.task: run async for run in finished}
            # The server refuses an id that is in use, which would be an error or a failed execution here.
            assert [run.error for run in runs.values() if run.error] == []
            assert sum(run.usage.failures for run in runs.values()) == 0
            assert set(runs) == set(tasks)
            await counters.idle()
            for task in tasks[:3]:
                assert (await Sprint(engine, sampling=GREEDY).run(task)).transcript == runs[task].transcript
            await engine.aclose()
            assert counters.connections() == 0

    asyncio.run(main())


def test_a_policys_plan_over_a_thousand_tokens_is_computed_once(connect: Connect) -> None:
    async def policy(planning):
        prompts = (f"48+{number}" for number in range(1, 9))
        yield Plan.of(*prompts, text="48+24=72\n" * 200)
        yield Answer(value="done")

    async def main() -> None:
        async with connect() as (engine, counters):
            await counters.forget()
            before = await counters.load()
            run = await Sprint(engine, policy=policy, sampling=GREEDY, limits=Limits(execution_tokens=32)).run(TASK)
            await counters.idle()
            after = await counters.load()
            (stage,) = run.stages
            reader, *own = sorted(computed(stage), reverse=True)
            assert len(own) == 7
            assert max(own) <= await most_of_its_own(engine)
            assert 1000 < reader < len(await engine.encode(run.transcript))
            assert after.computed_prompt_tokens - before.computed_prompt_tokens == run.usage.recomputed_tokens

    asyncio.run(main())


def test_a_plan_that_is_still_written_is_computed_once(connect: Connect) -> None:
    """Executors start while the planner writes, and compute once what it has written, and nothing that it read."""

    async def main() -> None:
        async with connect() as (engine, counters):
            most = await most_of_its_own(engine)
            await counters.forget()
            before = await counters.load()
            run = await Sprint(engine, sampling=GREEDY).run(TASK)
            await counters.idle()
            after = await counters.load()
            assert run.usage.width > 1
            assert_written_is_read_once([run], most=most)
            # By the server's count: what was written or joined is read once, and each branch's own on top of it.
            assert after.computed_prompt_tokens - before.computed_prompt_tokens == run.usage.recomputed_tokens
            once = len(await engine.encode(run.transcript))
            assert run.usage.recomputed_tokens <= once + most * run.usage.subtasks + run.usage.stages

    asyncio.run(main())


class Dictated(SGLangEngine):
    """The planner's request runs on the server at its own pace, but its text is replaced by ``plan``.

    It ends once as many executors are running as the plan has subtasks.
    """

    manifest = None
    plan: str
    executors: int
    _arrived: int = 0

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        if request.max_tokens == 0 or request.context.own_text.startswith("\n<execution_"):
            self._arrived += request.max_tokens > 0
            if self._arrived == self.executors:
                self._all.set()
            async for chunk in super().complete(request):
                yield chunk
            return
        if "</Execution_1>" in request.context.text:
            text = "<Final_answer>done</Final_answer>"
            yield Chunk(await self.encode(text), text, Finish("stop", None, 0, 0))
            return
        self._all = asyncio.Event()
        script = [(token, await self.decode([token])) for token in await self.encode(self.plan)]
        real = super().complete(replace(request, max_tokens=len(script) + 1, stop_ids=frozenset(), stop_texts=()))
        async with aclosing(real):
            for token, text in script:
                await anext(real, None)
                yield Chunk([token], text)
            await self._all.wait()
            yield Chunk([], "", Finish("stop", None, len(request.context), 0))


def test_a_plan_that_is_still_written_over_a_thousand_tokens_is_computed_once(
    connect: Connect, server: SGLangServer, checkpoint: Path
) -> None:
    prompts = "".join(f"<prompt_1.{number}>48+{number}</prompt_1.{number}>\n" for number in range(1, 9))

    async def main() -> None:
        async with connect() as (_, counters), Dictated(server.url, tokenizer=checkpoint) as engine:
            engine.plan, engine.executors = f"<Plan_1>\nSums first:\n{prompts}", 8
            await counters.forget()
            before = await counters.load()
            limits = Limits(execution_tokens=32)
            sprint = Sprint(engine, dialect="tags", sampling=GREEDY, limits=limits)
            run = await sprint.run("48+24=72\n" * 200 + TASK)
            await counters.idle()
            after = await counters.load()
            stage = run.stages[0]
            assert len(stage.executions) == 8
            assert min(execution.usage.prompt_tokens for execution in stage.executions) > 1000
            most = await most_of_its_own(engine)
            assert_written_is_read_once([run], most=most)
            # By the server's count: context and plan once, and each branch's own. Results may have been computed ahead.
            whole = max(execution.usage.prompt_tokens for execution in stage.executions)
            ahead = sum(
                call.usage.prompt_tokens - call.usage.cached_tokens for call in stage.calls if call.role == "prefix"
            )
            assert after.computed_prompt_tokens - before.computed_prompt_tokens <= whole + 8 * most + ahead

    asyncio.run(main())


def test_a_server_without_a_chat_template_is_written_to_plainly(server: SGLangServer) -> None:
    async def main() -> None:
        async with SGLangEngine(server.url) as engine:
            assert engine.capabilities.chat is None
            assert engine.manifest is not None
            assert (await Sprint(engine, sampling=GREEDY).run(TASK)).stages

    asyncio.run(main())
