"""Measure what whole runs cost a real SGLang server, by how many run at once and by who computes shared prefixes.

    make sglang && python benchmarks/runs_at_once.py --plot runs.svg
    python benchmarks/runs_at_once.py --at-once 1 8 32 --page-size 16 --pool 2560

Each row solves so many held-out problems of the shipped model at once, from an empty cache. "Computed" is the server's
count of prompt tokens that were not in its cache. The ways take turns, ``--rounds`` times; figures are medians.

- shared: the library; one executor reads for the others
- always: a request for no tokens reads whenever an executor starts, as the library once did
- never: each executor reads for itself
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from radix import Cost, Unshared, held_out, in_turns, parser, served, solve

from sprint_agents import Capabilities
from sprint_agents.engines import SGLangEngine

Costs = dict[int, dict[str, list[Cost]]]
"""By the number of runs, and by the way."""


class Committed(SGLangEngine):
    """An engine that hides that a request's context is in the cache with its first token, so the runtime commits."""

    @property
    def capabilities(self) -> Capabilities:
        """Say that only what has ended is in the cache."""
        return replace(super().capabilities, caches_contexts=False)


WAYS = {"shared": SGLangEngine, "always": Committed, "never": Unshared}


async def measure(options: argparse.Namespace) -> Costs:
    """Measure each way for each number of runs, on one server."""
    arguments = ["--page-size", str(options.page_size)]
    arguments += ["--max-total-tokens", str(options.pool)] if options.pool else []
    tasks = held_out(max(options.at_once), seed=options.seed, numbers=4)
    async with served(options, *arguments) as server, AsyncExitStack() as stack:
        engines = {
            name: await stack.enter_async_context(way(server.url, tokenizer=options.model))
            for name, way in WAYS.items()
        }
        await solve(engines["never"], tasks[:2])
        costs: Costs = {}
        for count in options.at_once:
            ways = {name: partial(solve, engine, tasks[:count]) for name, engine in engines.items()}
            costs[count] = await in_turns(server, ways, options.rounds)
            print(*rows(count, costs[count]), sep="\n", flush=True)
        return costs


def rows(count: int, costs: dict[str, list[Cost]]) -> list[str]:
    """Write the lines of a table for one number of runs."""
    return [
        f"| {count} | {name} | {middle(found, 'computed'):.0f} | {middle(found, 'requests'):.0f} "
        f"| {middle(found, 'seconds'):.2f} |"
        for name, found in costs.items()
    ]


def middle(costs: Sequence[Cost], field: str) -> float:
    """Return the median of one figure."""
    return median(getattr(cost, field) for cost in costs)


def draw(costs: Costs, path: Path) -> None:
    """Plot computed tokens and wall time per run against the number of runs."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, field, title in zip(axes, ("computed", "seconds"), ("prompt tokens computed", "seconds"), strict=True):
        for name in WAYS:
            axis.plot(list(costs), [middle(by[name], field) / count for count, by in costs.items()], ".-", label=name)
        axis.set(xscale="log", xlabel="runs at once", title=f"{title}, per run", ylim=(0, None))
        axis.set_xticks(list(costs), [str(count) for count in costs])
        axis.minorticks_off()
    axes[0].legend()
    figure.savefig(path)


def main() -> None:
    """Read the options, print the table and draw the plot."""
    made = parser(__doc__)
    made.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    made.add_argument("--page-size", type=int, default=1)
    made.add_argument("--pool", type=int, help="tokens that the server's cache holds")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--plot", type=Path)
    options = made.parse_args()
    print("| runs | way | prompt tokens computed | requests | seconds |\n|---:|---|---:|---:|---:|")
    costs = asyncio.run(measure(options))
    if options.plot:
        draw(costs, options.plot)


if __name__ == "__main__":
    main()
