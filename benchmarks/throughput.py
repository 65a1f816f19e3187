"""Many runs at once on a real SGLang server, against a bare loop of ``/generate`` calls with the same tokens.

    make sglang && python benchmarks/throughput.py        # --quick for one round

``--runs`` runs of the shipped model on held-out problems go at the same time, greedily, and every request is noted. The
bare loop then sends the same requests by a plain HTTP client: of each run the planner's one by one and the executors of
a stage together, as many tokens each, neither streamed nor parsed; and it need not wait for a plan to be parsed, or
share a prefix. All start from an empty cache, ``--rounds`` times in turns; medians. "Always" and "never" are other ways
of the library to share a prefix: see ``radix.py``.
"""

import argparse
import asyncio
from functools import partial
from statistics import median

from radix import Noting, held_out, in_each_way, in_turns, parser, served, solve


async def compare(options: argparse.Namespace) -> None:
    """Print the table and the ratio."""
    tasks = held_out(options.runs, seed=2, numbers=3)
    async with (
        served(options) as server,
        Noting(server.url, tokenizer=options.model) as noting,
        in_each_way(server.url, options.model) as engines,
    ):
        await solve(noting, tasks)
        runs = list(noting.runs.values())
        ways = {name: partial(solve, engine, tasks) for name, engine in engines.items()}
        costs = await in_turns(server, {**ways, "bare": partial(server.replay, runs)}, options.rounds)
    tokens = sum(call.tokens for calls in runs for call in calls)
    print(f"{len(tasks)} runs at once, {tokens} generated tokens\n")
    print("| way | requests | prompt tokens computed | seconds | generated tokens per second |")
    print("|---|---:|---:|---:|---:|")
    for name, found in costs.items():
        requests, computed = median(cost.requests for cost in found), median(cost.computed for cost in found)
        seconds = median(cost.seconds for cost in found)
        print(f"| {name} | {requests:.0f} | {computed:.0f} | {seconds:.1f} | {tokens / seconds:.0f} |")
    ratio = median(bare.seconds / ours.seconds for ours, bare in zip(costs["shared"], costs["bare"], strict=True))
    print(f"\nsprint-agents reaches {ratio:.2f} of the bare loop's throughput")


def main() -> None:
    """Read the options and print the table."""
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=64)
    asyncio.run(compare(options.parse_args()))


if __name__ == "__main__":
    main()
