"""The token ids of a run on a real server are those of the same run in process."""

import asyncio
from pathlib import Path

import pytest

from sprint_agents import Sprint
from sprint_agents.engine import Engine
from sprint_agents.engines import LocalEngine
from sprint_agents.rollouts import Rollout, RolloutRecorder

from .conftest import Connect
from .runs import GREEDY, held_out


async def rollout_of(engine: Engine, task: str) -> Rollout:
    recorder = RolloutRecorder(engine)
    run = await Sprint(recorder, sampling=GREEDY, settles=False).run(task)
    rollout = recorder.rollout(run)
    assert sum(sum(branch.mask) for branch in rollout.branches) == run.usage.total_tokens
    return rollout


def test_a_rollout_is_that_of_the_embedded_engine(connect: Connect, checkpoint: Path) -> None:
    (task,) = held_out(1, seed=5)

    async def main() -> tuple[Rollout, Rollout]:
        async with connect() as (engine, _), LocalEngine(checkpoint) as local:
            return await rollout_of(engine, task), await rollout_of(local, task)

    there, here = asyncio.run(main())
    assert len(there.branches) == len(here.branches) > 1
    # Branches are in the order of their first requests, in which one executor may precede the others.
    found = {(branch.role, branch.stage, branch.number): branch for branch in there.branches}
    for other in here.branches:
        one = found[other.role, other.stage, other.number]
        assert (one.ids, one.mask) == (other.ids, other.mask)
        assert one.logprobs == pytest.approx(other.logprobs, abs=0.02)
