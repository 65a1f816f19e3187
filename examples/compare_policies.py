"""Solve the same problems with every policy of the library on the same model, and compare.

The temperature is above zero, so that policies that try several times get different answers. For more problems and
confidence intervals, see ``benchmarks/policies.py``.

    python examples/compare_policies.py
    python examples/compare_policies.py "countdown 4 24 28 16"
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from statistics import mean

from sprint_agents import Engine, Policy, Run, Sampling, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path
from sprint_agents.policies import BUILT_IN, as_needed, fork_join_async, self_consistency

TASKS = ("countdown 4 9 24 37", "countdown 9 12 23 20", "countdown 4 24 28 16", "countdown 4 6 14 21 17")
# sprint-nano expects the results right after a plan, and was not taught to plan within a subtask.
POLICIES: Mapping[str, Policy] = BUILT_IN | {
    "self_consistency": self_consistency(samples=4),
    "fork_join_async": fork_join_async(ahead=0),
    "as_needed": as_needed(depth=0),
}


def line(name: str, runs: Sequence[Run]) -> str:
    """Write the results of a policy: right answers, tokens on the critical path and in total, seconds per run."""
    right = sum(run.verified is True for run in runs)
    strict, total, seconds = (
        mean(values)
        for values in zip(
            *((run.usage.sequential_tokens_strict, run.usage.total_tokens, run.usage.seconds) for run in runs),
            strict=True,
        )
    )
    return f"{name:18} {right:3} of {len(runs)} {strict:12.0f} {total:8.0f} {seconds:8.2f}"


async def main(
    engine: Engine | None = None, *, tasks: Sequence[str] = TASKS, policies: Mapping[str, Policy] = POLICIES
) -> Mapping[str, Sequence[Run]]:
    """Print one line per policy, and return the runs of each."""
    print(f"{'policy':18} {'right':>8} {'sequential':>12} {'total':>8} {'seconds':>8}")
    solved: dict[str, list[Run]] = {}
    async with aclosing(engine or LocalEngine(nano_path())) as opened:
        for name, policy in policies.items():
            sprint = Sprint(opened, policy=policy, sampling=Sampling(temperature=0.6, seed=1))
            async with sprint.map(tasks, concurrency=1) as runs:
                solved[name] = [run async for run in runs]
            print(line(name, solved[name]))
    return solved


if __name__ == "__main__":
    asyncio.run(main(tasks=sys.argv[1:] or TASKS))
