"""What the library costs per subtask: a typed fan-out against bare ``asyncio.gather`` and pydantic validation.

    python benchmarks/overhead.py

Both sides run in this process and in turns, ``--rounds`` times; medians are reported. The engine has no latency, so
all time is the library's (and the fake engine's). Then one run at 50 ms a request, whose critical path is known; then
the cost of wider and wider plans, which must be linear; then the memory of a branch.
"""

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable

from pydantic import BaseModel, TypeAdapter

from sprint_agents import Answer, Context, Executor, Limits, Plan, Sprint, State
from sprint_agents.testing import FakeEngine, Latency


class Finding(BaseModel):
    """The typed result of a subtask."""

    name: str
    score: float


RESULT = '{"name": "a finding", "score": 0.5}'
_adapter = TypeAdapter(Finding)


async def bare(width: int, *, delay: float = 0.0) -> None:
    """Do the least that a program without the library would do."""

    async def subtask(number: int) -> Finding:
        await asyncio.sleep(delay)
        return _adapter.validate_json(RESULT)

    found = await asyncio.gather(*(subtask(number) for number in range(width)))
    assert len(found) == width


def with_policy(width: int, *, latency: Latency | None = None) -> Callable[[], Awaitable[None]]:
    """Fan out a policy's own plan."""

    async def policy(planning):
        stage = yield Plan.of(*(f"look at part {number}" for number in range(width)))
        assert len(stage.results) == width
        yield Answer(value="done")

    async def run() -> None:
        await Sprint(FakeEngine(lambda prompt: RESULT, latency=latency), policy=policy, executor=Executor(Finding)).run("t")

    return run


def with_model(width: int, *, latency: Latency) -> Callable[[], Awaitable[None]]:
    """Fan out a plan that the model writes, then its answer: three requests on the critical path."""
    prompts = "".join(f"<prompt_1.{n}>look at part {n}</prompt_1.{n}>" for n in range(1, width + 1))
    plan = f"<Plan_1>{prompts}</Plan_1>"

    def respond(prompt) -> str:
        if prompt.ids[-1] == prompt.ids[0]:
            return RESULT
        text = prompt.text
        if text.endswith("</Execution_1>\n"):
            return "<Final_answer>done</Final_answer>"
        return plan if text.count("\n") == 1 else RESULT

    async def run() -> None:
        limits = Limits(plan_tokens=100 * width)
        result = await Sprint(FakeEngine(respond, latency=latency), executor=Executor(Finding), limits=limits).run("t")
        assert len(result.stages[0].results) == width

    return run


def timed(work: Callable[[], Awaitable[None]]) -> float:
    gc.collect()
    started = time.perf_counter()
    asyncio.run(work())
    return time.perf_counter() - started


def fan_out(rounds: int) -> None:
    print("Zero latency, µs per subtask, medians\n")
    print("| subtasks | bare asyncio + pydantic | sprint-agents | ratio |\n|---:|---:|---:|---:|")
    for width in (8, 64, 512):
        run = with_policy(width)
        pairs = [(timed(lambda: bare(width)), timed(run)) for _ in range(rounds)]
        plain, ours = (statistics.median(side) / width * 1e6 for side in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"| {width} | {plain:.1f} | {ours:.1f} | {ratio:.1f} |")


def critical_path(rounds: int) -> None:
    print("\n50 ms a request, against the critical path; bare: one request of 50 ms per subtask, nothing before or after\n")
    print("| subtasks | who plans | critical path, ms | measured, ms | ratio | bare ratio |\n|---:|---|---:|---:|---:|---:|")
    latency = Latency(request=0.05)
    for width in (64, 512):
        plain = statistics.median(timed(lambda: bare(width, delay=0.05)) for _ in range(rounds)) / 0.05
        for who, run, path in (
            ("policy", with_policy(width, latency=latency), 0.05),
            ("model", with_model(width, latency=latency), 0.15),
        ):
            seconds = statistics.median(timed(run) for _ in range(rounds))
            print(f"| {width} | {who} | {path * 1e3:.0f} | {seconds * 1e3:.0f} | {seconds / path:.2f} | {plain:.2f} |")


def growth(rounds: int) -> None:
    print("\nWider plans, µs per subtask (linear cost: the column does not grow)\n")
    print("| subtasks | sprint-agents |\n|---:|---:|")
    for width in (100, 1_000, 10_000):
        seconds = statistics.median(timed(with_policy(width)) for _ in range(max(1, rounds // 3)))
        print(f"| {width} | {seconds / width * 1e6:.1f} |")


def memory() -> None:
    count = 10_000
    parent = State(FakeEngine(lambda prompt: ""), Context().extend(range(1000), "x" * 4000))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    branches = [parent.branch() for _ in range(count)]
    size = (tracemalloc.get_traced_memory()[0] - before) / count
    for branch in branches:
        branch.context = branch.context.extend((1, 2, 3), "abc")
    grown = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    print(f"\nMemory of a branch over a context of 1,000 tokens: {size:.0f} bytes, {grown:.0f} with 3 tokens of its own")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    fan_out(rounds)
    critical_path(rounds)
    growth(rounds)
    memory()


if __name__ == "__main__":
    main()
