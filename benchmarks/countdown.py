"""Interleaved planning against one sequential chain, by the same model on the same held-out problems.

    python benchmarks/countdown.py --problems 100

Both policies solve each problem in turn, alone on the engine, greedily, so wall times are latencies and can be
compared within a pair. Problems are held out from training by a hash of numbers and target. A program checks the
answers; the 95 % interval of the accuracy is Wilson's. Wall times are medians over problems, the speed-up is the
median of the pairs.
"""

import argparse
import asyncio
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path

from sprint_agents import Run, Sampling, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path
from sprint_finetune.evaluation.summary import wilson
from sprint_finetune.nano.countdown import problems

POLICIES = ("sequential", "interleaved")


async def solve(engine: LocalEngine, tasks: Sequence[str]) -> dict[str, list[Run]]:
    """Run every policy on every task, in turns."""
    runs: dict[str, list[Run]] = {policy: [] for policy in POLICIES}
    for task in tasks:
        for policy in POLICIES:
            sprint = Sprint(engine, policy=policy, sampling=Sampling(temperature=0))
            async with sprint.map([task], concurrency=1) as finished:
                runs[policy] += [run async for run in finished]
    return runs


def row(name: str, runs: Sequence[Run], against: Sequence[Run]) -> str:
    """Write one line of the table."""
    right = sum(run.verified is True for run in runs)
    low, high = (100 * bound for bound in wilson(right, len(runs)))
    usage = [run.usage for run in runs]
    mean = [
        statistics.mean(getattr(one, field) for one in usage)
        for field in ("sequential_tokens", "sequential_tokens_strict", "total_tokens")
    ]
    wall = statistics.median(one.seconds for one in usage)
    speed_up = statistics.median(b.usage.seconds / a.usage.seconds for a, b in zip(runs, against, strict=True))
    return (
        f"| {name} | {100 * right / len(runs):.0f} ({low:.0f} to {high:.0f}) "
        f"| {mean[0]:.0f} | {mean[1]:.0f} | {mean[2]:.0f} | {1000 * wall:.0f} | {speed_up:.2f} |"
    )


def table(count: str, runs: dict[str, list[Run]]) -> None:
    """Print both policies side by side, over all problems and over the third with the longest sequential chains."""
    print(f"\n{count}\n")
    print("| policy | right, % (95 %) | sequential tokens | … strict | total tokens | wall, ms | speed-up |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for policy in POLICIES:
        print(row(policy, runs[policy], runs["sequential"]))
    order = sorted(range(len(runs["sequential"])), key=lambda index: runs["sequential"][index].usage.total_tokens)
    longest = order[-(len(order) // 3) :]
    for policy in POLICIES if longest else ():
        picked = {name: [runs[name][index] for index in longest] for name in POLICIES}
        print(row(f"{policy}, longest third", picked[policy], picked["sequential"]))


async def compare(model: Path, *, count: int, seed: int) -> None:
    """Print one table per count of numbers."""
    async with LocalEngine(model, threads=1) as engine:
        for numbers in (3, 4):
            drawn = itertools.islice(problems(seed=seed, split="held_out", counts=(numbers,)), count)
            runs = await solve(engine, [task.prompt for task, _ in drawn])
            table(f"{numbers} numbers, {count} held-out problems, seed {seed}", runs)


def main() -> None:
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_path())
    parser.add_argument("--problems", type=int, default=20, help="per count of numbers")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    asyncio.run(compare(arguments.model, count=arguments.problems, seed=arguments.seed))


if __name__ == "__main__":
    main()
