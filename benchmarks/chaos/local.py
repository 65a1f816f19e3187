"""Runs on sprint-nano that are cancelled, left, starved and resumed at random, several at once on one engine."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from sprint_agents import Budget, Engine, Limits, Run, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.errors import SprintError
from sprint_agents.nano import nano_path
from sprint_agents.policies import BUILT_IN, as_needed, fork_join_async, self_consistency, spawn_join, tree_search
from sprint_finetune.nano.countdown import problems

from .invariants import Outcome, difference, outcome_problems

POLICIES = BUILT_IN | {
    "self_consistency": self_consistency(samples=3),
    "fork_join_async": fork_join_async(ahead=0),
    "as_needed": as_needed(depth=0),
    "spawn_join": spawn_join(depth=0),
    "tree_search": tree_search(depth=1),
}
AT_ONCE = 8


@dataclass(slots=True)
class LocalSoak:
    """The runs of one seed: ``outcomes`` by way, and what was wrong."""

    engine: Engine
    seed: int
    folder: Path
    outcomes: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    violations: list[str] = field(default_factory=list[str])

    async def run(self, number: int, task: str) -> None:
        """Run one task in a way that the seed and ``number`` decide."""
        random = Random(f"local {self.seed}/{number}")
        ways: dict[str, Callable[[Random, str, Path], Awaitable[str]]] = {
            "run": self._plain,
            "cancelled": self._cancelled,
            "stream left": self._left,
            "cancelled and resumed": self._resumed,
        }
        way = random.choice(list(ways))
        outcome = await ways[way](random, task, self.folder / str(number))
        self.outcomes.setdefault(way, Counter())[outcome] += 1

    def _sprint(self, random: Random, *, bounded: bool = True) -> Sprint[Any, Any]:
        bounds: dict[str, Any] = random.choice(({}, {"tokens": 60}, {"calls": 3}, {"subtasks": 2}, {"seconds": 0.3}))
        return Sprint(
            self.engine,
            policy=POLICIES[random.choice(list(POLICIES))],
            failure=random.choice(("collect", "fail_fast", "retry")),
            budget=Budget(**bounds) if bounded else None,
            limits=Limits(stages=4, plan_tokens=256, execution_tokens=160, chain_tokens=400),
        )

    async def _plain(self, random: Random, task: str, path: Path) -> str:
        sprint = self._sprint(random)
        return self._ended(sprint, await _outcome(sprint, task))

    async def _cancelled(self, random: Random, task: str, path: Path) -> str:
        sprint = self._sprint(random)
        outcome = await _until(sprint, task, random.random())
        return "cancelled" if outcome is None else self._ended(sprint, outcome)

    async def _left(self, random: Random, task: str, path: Path) -> str:
        sprint, most = self._sprint(random), random.randint(1, 60)
        try:
            async with sprint.stream(task) as events:
                async for _ in events:
                    if not (most := most - 1):
                        return "left"
        except SprintError as error:
            return self._ended(sprint, error)
        return "answered"

    async def _resumed(self, random: Random, task: str, path: Path) -> str:
        sprint = self._sprint(random, bounded=False)
        await _until(sprint, task, random.random(), journal=path)
        outcome = await _outcome(sprint, task, journal=path)
        whole = await _outcome(sprint, task)
        self.violations += [f"{path.name}: {problem}" for problem in difference(outcome, whole, pending=False)]
        return self._ended(sprint, outcome)

    def _ended(self, sprint: Sprint[Any, Any], outcome: Outcome) -> str:
        self.violations += outcome_problems(outcome, sprint.budget)
        return "answered" if isinstance(outcome, Run) else type(outcome).__name__


async def _outcome(sprint: Sprint[Any, Any], task: str, *, journal: Path | None = None) -> Outcome:
    try:
        return await sprint.run(task, journal=journal)
    except SprintError as error:
        return error


async def _until(sprint: Sprint[Any, Any], task: str, seconds: float, *, journal: Path | None = None) -> Outcome | None:
    """Run for some seconds; return the outcome if there is one by then."""
    run = asyncio.create_task(_outcome(sprint, task, journal=journal))
    await asyncio.wait([run], timeout=seconds)
    run.cancel()
    await asyncio.wait([run])
    return None if run.cancelled() else run.result()


async def soak_local(seed: int, runs: int) -> LocalSoak:
    """Run so many tasks; afterwards no request, task or thread may be alive."""
    drawn = problems(seed=seed, split="held_out", counts=(3,))
    with TemporaryDirectory() as folder:
        async with LocalEngine(nano_path(), threads=1) as engine:
            soak = LocalSoak(engine, seed, Path(folder))
            for start in range(0, runs, AT_ONCE):
                numbers = range(start, min(start + AT_ONCE, runs))
                await asyncio.gather(*(soak.run(number, next(drawn)[0].prompt) for number in numbers))
                if alive := asyncio.all_tasks() - {asyncio.current_task()}:
                    soak.violations.append(f"tasks are alive: {alive}")
            counts = engine.statistics()
            for _ in range(100):  # the engine counts at the end of a step
                if not counts.running + counts.waiting:
                    break
                await asyncio.sleep(0.05)
                counts = engine.statistics()
            if counts.running or counts.waiting or counts.pinned_tokens:
                soak.violations.append(f"requests are alive: {counts}")
    # The loop ends its own threads after this.
    if alive := [
        thread.name for thread in threading.enumerate() if not thread.name.startswith(("MainThread", "asyncio"))
    ]:
        soak.violations.append(f"threads are alive: {alive}")
    return soak
