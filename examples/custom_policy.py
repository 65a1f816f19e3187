"""Write your own policy: try once; if the answer is wrong, try twice at the same time, then four times.

``widening`` is the whole policy. It sees typed stages, never raw text, so it works with any model and task. Here it
runs on sprint-nano, at a temperature where attempts differ. ``race``, ``until`` and others come with the library.

    python examples/custom_policy.py
    python examples/custom_policy.py "Use 24, 9, 4 to make 37."
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from sprint_agents import Answer, Engine, Execution, Planning, Policy, Run, Sampling, Sprint, Stage, Step
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path
from sprint_agents.nano.tasks import Countdown
from sprint_agents.policies import interleaved

TASK = "Use 23, 13, 6, 6 to make 96."


def widening(policy: Policy, task: Countdown, *, rounds: int = 3) -> Policy:
    """Make a policy that runs ``policy`` 1, 2, 4, … times at once until an answer is right, for at most ``rounds``."""

    def good(tried: Execution[Any]) -> bool:
        return task.check(str(tried.value))

    async def widened(planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
        for number in range(rounds):
            stage = yield planning.attempt(*[policy] * 2**number, accept=good)
            if stage.accepted is not None:
                yield Answer(value=stage.executions[stage.accepted - 1].value)
                return
        stage = yield planning.ask("answer")
        yield Answer(value=stage.answer)

    return widened


async def main(engine: Engine | None = None, *, task: str = TASK) -> Run:
    """Solve ``task``, print the answers of each round, and return the run."""
    countdown = Countdown.parse(task)
    if countdown is None:
        raise SystemExit(f"{task!r} is not a Countdown problem: write it like {TASK!r}")
    async with aclosing(engine or LocalEngine(nano_path())) as opened:
        policy = widening(interleaved, countdown)
        sampling = Sampling(temperature=0.8, seed=1)
        run = await Sprint(opened, policy=policy, sampling=sampling, checker=countdown.check).run(task)
    for stage in run.stages:
        values = [execution.value if execution.succeeded else "given up" for execution in stage.executions]
        print(f"round {stage.number}: {', '.join(map(str, values))}")
    print(f"{run.answer} ({'right' if run.verified else 'wrong'})")
    return run


if __name__ == "__main__":
    asyncio.run(main(task=" ".join(sys.argv[1:]) or TASK))
