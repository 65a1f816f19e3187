"""Measure what whole runs cost a real SGLang server, by how many run at once and by who computes shared prefixes.

    make sglang && python benchmarks/runs_at_once.py --plot runs.svg
    python benchmarks/runs_at_once.py --quick --at-once 1 8 32 --page-size 1 16 --pool 65536 2560

Each row solves so many held-out problems of the shipped model at once, from an empty cache. "Computed" is the server's
count of prompt tokens that were not in its cache. The ways take turns, ``--rounds`` times; figures are medians. Each
page size and each pool, the number of tokens that the cache holds, has a table and a server of its own.

- shared: the library; one executor reads for the others
- always: a request for no tokens reads whenever an executor starts, as the library once did
- never: each executor reads for itself
"""

import argparse
import asyncio
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from radix import WAYS, Cost, held_out, in_each_way, in_turns, parser, served, solve

Costs = dict[int, dict[str, list[Cost]]]
"""By the number of runs, and by the way."""


async def measure(options: argparse.Namespace, page: int, pool: int) -> Costs:
    """Measure each way for each number of runs, on one server."""
    arguments = ["--page-size", str(page), "--max-total-tokens", str(pool)]
    tasks = held_out(max(options.at_once), seed=options.seed, numbers=4)
    async with served(options, *arguments) as server, in_each_way(server.url, options.model) as engines:
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


def draw(figures: Mapping[tuple[int, int], Costs], path: Path) -> None:
    """Plot computed tokens and wall time per run against the number of runs, a row for each page size and pool."""
    from matplotlib import pyplot

    size = (9, 0.4 + 3 * len(figures))
    figure, axes = pyplot.subplots(len(figures), 2, figsize=size, layout="constrained", squeeze=False)
    for row, ((page, pool), costs) in zip(axes, figures.items(), strict=True):
        for axis, field, title in zip(row, ("computed", "seconds"), ("prompt tokens computed", "seconds"), strict=True):
            for name in WAYS:
                values = [middle(by[name], field) / count for count, by in costs.items()]
                axis.plot(list(costs), values, ".-", label=name)
            axis.set(xscale="log", xlabel="runs at once", title=f"{title}, per run", ylim=(0, None))
            axis.set_xticks(list(costs), [str(count) for count in costs])
            axis.minorticks_off()
        row[0].set_ylabel(f"pages of {page}, pool of {pool:,}")
    axes[0][0].legend()
    figure.savefig(path)


def main() -> None:
    """Read the options, print the tables and draw the plot."""
    made = parser(__doc__)
    made.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    made.add_argument("--page-size", type=int, nargs="+", default=[1])
    made.add_argument("--pool", type=int, nargs="+", default=[65536], help="tokens that the server's cache holds")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--plot", type=Path)
    options = made.parse_args()
    figures: dict[tuple[int, int], Costs] = {}
    for page, pool in itertools.product(options.page_size, options.pool):
        print(f"\npages of {page}, pool of {pool:,} tokens\n")
        print("| runs | way | prompt tokens computed | requests | seconds |\n|---:|---|---:|---:|---:|", flush=True)
        figures[page, pool] = asyncio.run(measure(options, page, pool))
    if options.plot:
        draw(figures, options.plot)


if __name__ == "__main__":
    main()
