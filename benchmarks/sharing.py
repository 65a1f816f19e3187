"""Measure how much of their prompts the executors of several frameworks share with each other and with the planner.

    make recipes
    PYTHONPATH=.:integrations .venv-recipes/bin/python benchmarks/sharing.py

A question about a document of 3,000 tokens has eight subtasks. Each framework plans, solves the subtasks at the same
time and answers, as its own documentation does it, against a server on loopback that plays the model and counts tokens
through an ideal prefix cache (``rivals/server.py``). Computed tokens are what a real server would have to prefill: for
the plan, for the executor that computes most, for each of the others (the median), and for the answer.
"""

import asyncio
import warnings
from importlib.metadata import version
from statistics import median

from instant.loopback import served
from rivals.programs import PROGRAMS
from rivals.server import Counted, CountingServer
from rivals.task import WIDTH

PACKAGES = ("langgraph", "pydantic-ai-slim", "deepagents", "langchain-openai")


async def measure(name: str) -> list[Counted]:
    """Run a framework's program against a server of its own."""
    counting = CountingServer()
    async with served(counting.app) as address:
        await PROGRAMS[name](f"{address}/v1")
    return counting.requests


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES), end="\n\n")
    print("| | requests | prompt tokens | computed | planner | first executor | further executors | answer |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in PROGRAMS:
        requests = asyncio.run(measure(name))
        planner, executors, answer = (
            [each.computed for each in requests if each.role == role] for role in ("planner", "executor", "answer")
        )
        # An executor may send several requests; the first of each come first.
        rounds = [executors[start : start + WIDTH] for start in range(0, len(executors), WIDTH)]
        assert all(len(each) == WIDTH for each in rounds), f"{name} solved another number of subtasks"
        first, further = sum(max(each) for each in rounds), sum(int(median(each)) for each in rounds)
        prompt, computed = (sum(getattr(each, what) for each in requests) for what in ("prompt", "computed"))
        print(
            f"| {name} | {len(requests)} | {prompt:,} | {computed:,} ({computed / prompt:.0%}) | {sum(planner):,} "
            f"| {first:,} | {further:,} | {sum(answer):,} |"
        )


if __name__ == "__main__":
    main()
