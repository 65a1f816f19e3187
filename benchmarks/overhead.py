"""Measure the cost of the library per subtask: a typed fan-out against ``asyncio.gather`` and pydantic validation.

    python benchmarks/overhead.py

"Bare" gathers coroutines that yield to the loop once and validate; "same engine" sends the same requests to the same
engine without the library. All run in this process and take turns, ``--rounds`` times; figures are medians of CPU
time, which other programs disturb less than wall time. The engine answers at once, so all time is the library's. The
other tables: a run in JSON, whose model writes the plan and a typed answer, also on ``FakeEngine``; subtasks whose
executor calls a tool before it writes its result; runs with listeners and with OpenTelemetry, which may leave out the
spans of requests; one run at 50 ms per request, whose critical path is known; ever
wider plans, whose cost must be linear but for the garbage collector's; and the memory of a branch.
"""

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial

from instant.engines import (
    ANSWER_TURN,
    CALL_TURN,
    RESULT,
    RESULT_TURN,
    Answered,
    Finding,
    InstantEngine,
    JsonEngine,
    Parts,
    Report,
    Result,
    ToolEngine,
    Turn,
    plan_turn,
    scripted,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from pydantic import TypeAdapter
from pydantic_core import to_json

from sprint_agents import (
    Answer,
    Context,
    Engine,
    Executor,
    Limits,
    Plan,
    Planner,
    Planning,
    Request,
    Sampling,
    Sprint,
    Stage,
    State,
    Step,
)
from sprint_agents.events import Event
from sprint_integrations.otel import Telemetry

_adapter = TypeAdapter(Finding)


async def look_up(word: str) -> int:
    """Count the letters of a word."""
    return len(word)


async def bare(width: int, *, delay: float = 0.0) -> None:
    """Do the least that a program without the library would do."""

    async def subtask(number: int) -> Finding:
        await asyncio.sleep(delay)
        return _adapter.validate_json(RESULT)

    found = await asyncio.gather(*(subtask(number) for number in range(width)))
    assert len(found) == width


async def bare_in_json(width: int) -> None:
    """Do the least for a run in which a model writes a plan, the results and the answer."""

    async def told(text: str) -> str:
        await asyncio.sleep(0)
        return text

    async def subtask() -> Finding:
        return Result.model_validate_json(await told(RESULT_TURN)).result

    plan = Parts.model_validate_json(await told("".join(plan_turn(width))))
    found = await asyncio.gather(*(subtask() for _ in plan.subtasks))
    assert Answered.model_validate_json(await told(ANSWER_TURN)).answer.text
    assert len(found) == width


async def bare_with_tool(width: int) -> None:
    """Do the least for subtasks in which a model calls a tool before it writes its result."""

    async def subtask(number: int) -> Finding:
        await asyncio.sleep(0)
        told = await called(CALL_TURN)
        assert told
        await asyncio.sleep(0)
        return Result.model_validate_json(RESULT_TURN).result

    found = await asyncio.gather(*(subtask(number) for number in range(width)))
    assert len(found) == width


async def called(turn: str) -> str:
    """Make the call of a turn, and return the text that the model reads after it."""
    (call,) = Turn.model_validate_json(turn).call
    async with asyncio.timeout(60):
        result = await look_up(call.arguments.word)
    return f'{turn}\nreturned [{{"tool": "{call.tool}", "result": {to_json(result).decode()}}}]\n'


async def bare_with_tool_on_engine(width: int) -> None:
    """Send the same requests to the same engine, without the library."""
    engine = ToolEngine()
    context = Context().extend([1], "a part\n")

    async def ask(number: str, context: Context) -> str:
        request = Request(id=number, context=context, max_tokens=100, sampling=Sampling())
        return "".join([chunk.text async for chunk in engine.complete(request)])

    async def subtask(number: int) -> Finding:
        told = await called(await ask(f"{number}-1", context))
        text = await ask(f"{number}-2", context.extend(await engine.encode(told), told))
        return Result.model_validate_json(text).result

    found = await asyncio.gather(*(subtask(number) for number in range(width)))
    assert len(found) == width


async def bare_on_engine(width: int) -> None:
    """Send the same requests to the same engine, without the library."""
    engine = InstantEngine(width)
    context = Context().extend([1], "\n<execution_")

    async def subtask(number: int) -> Finding:
        request = Request(id=str(number), context=context, max_tokens=100, sampling=Sampling())
        text = "".join([chunk.text async for chunk in engine.complete(request)])
        return _adapter.validate_json(text)

    found = await asyncio.gather(*(subtask(number) for number in range(width)))
    assert len(found) == width


def with_tool(width: int) -> Callable[[], Awaitable[None]]:
    """Fan out a policy's own plan to executors that call a tool."""

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage[Finding]]:
        stage = yield Plan.of(*(f"look at part {number}" for number in range(width)))
        assert len(stage.results) == width
        yield Answer(value="done")

    async def run() -> None:
        executor = Executor(Finding, tools=[look_up])
        done = await Sprint(ToolEngine(), policy=policy, executor=executor, dialect="json").run("t")
        assert done.usage.tool_calls == width

    return run


def with_policy(width: int, *, delay: float = 0.0) -> Callable[[], Awaitable[None]]:
    """Fan out a policy's own plan, with one request on the critical path."""

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage[Finding]]:
        stage = yield Plan.of(*(f"look at part {number}" for number in range(width)))
        assert len(stage.results) == width
        yield Answer(value="done")

    async def run() -> None:
        await Sprint(InstantEngine(width, delay=delay), policy=policy, executor=Executor(Finding)).run("t")

    return run


def with_model(width: int, *, delay: float = 0.0) -> Callable[[], Awaitable[None]]:
    """Fan out a plan that the model writes, with three requests on the critical path."""

    async def run() -> None:
        sprint = Sprint(InstantEngine(width, delay=delay), executor=Executor(Finding), limits=Limits(plan_tokens=10**6))
        result = await sprint.run("t")
        assert len(result.stages[0].results) == width

    return run


def in_json(
    engine: Engine, width: int, *, listeners: Sequence[Callable[[Event], object]] = ()
) -> Callable[[], Awaitable[None]]:
    """Fan out a plan in JSON that the model writes; it also writes a typed answer."""
    sprint = Sprint(
        engine,
        planner=Planner(Report),
        executor=Executor(Finding),
        dialect="json",
        limits=Limits(plan_tokens=10**6),
        listeners=listeners,
    )

    async def run() -> None:
        result = await sprint.run("t")
        assert len(result.stages[0].results) == width

    return run


def timed(work: Callable[[], Awaitable[None]], *, clock: Callable[[], float] = time.process_time) -> float:
    """Return the seconds that ``work`` takes in a fresh event loop."""
    gc.collect()
    started = clock()
    asyncio.run(work())
    return clock() - started


def fan_out(rounds: int) -> None:
    """Print the cost of a subtask at zero latency."""
    print("Zero latency, µs per subtask, medians\n")
    print("| subtasks | bare | bare, same engine | policy plans | / bare | / same engine | model plans | / bare |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for width in (8, 64, 512):
        sides = (partial(bare, width), partial(bare_on_engine, width), with_policy(width), with_model(width))
        measured = [[timed(side) for side in sides] for _ in range(rounds)]
        cost = [statistics.median(side) / width * 1e6 for side in zip(*measured, strict=True)]

        def times(side: int, base: int, measured: list[list[float]] = measured) -> float:
            return statistics.median(row[side] / row[base] for row in measured)

        print(
            f"| {width} | {cost[0]:.1f} | {cost[1]:.1f} | {cost[2]:.1f} | {times(2, 0):.1f} | {times(2, 1):.1f} "
            f"| {cost[3]:.1f} | {times(3, 0):.1f} |"
        )


def runs_in_json(rounds: int) -> None:
    """Print the cost of a subtask in a run whose model writes the plan and a typed answer, as JSON."""
    print("\nZero latency, plan, results and answer in JSON, µs per subtask, medians\n")
    print("| subtasks | bare | sprint-agents | / bare | on FakeEngine | / bare |")
    print("|---:|---:|---:|---:|---:|---:|")
    for width in (8, 64, 512):
        sides = (partial(bare_in_json, width), in_json(JsonEngine(width), width), in_json(scripted(width), width))
        measured = [[timed(side) for side in sides] for _ in range(rounds)]
        cost = [statistics.median(side) / width * 1e6 for side in zip(*measured, strict=True)]
        ratios = [statistics.median(row[side] / row[0] for row in measured) for side in (1, 2)]
        print(f"| {width} | {cost[0]:.1f} | {cost[1]:.1f} | {ratios[0]:.1f} | {cost[2]:.1f} | {ratios[1]:.1f} |")


def with_tools(rounds: int) -> None:
    """Print the cost of a subtask that calls a tool."""
    print("\nZero latency, a tool called in each subtask, µs per subtask, medians\n")
    print("| subtasks | bare | bare, same engine | policy plans | / bare | / same engine |")
    print("|---:|---:|---:|---:|---:|---:|")
    for width in (8, 64, 512):
        sides = (partial(bare_with_tool, width), partial(bare_with_tool_on_engine, width), with_tool(width))
        measured = [[timed(side) for side in sides] for _ in range(rounds)]
        cost = [statistics.median(side) / width * 1e6 for side in zip(*measured, strict=True)]
        ratios = [statistics.median(row[2] / row[base] for row in measured) for base in (0, 1)]
        print(f"| {width} | {cost[0]:.1f} | {cost[1]:.1f} | {cost[2]:.1f} | {ratios[0]:.1f} | {ratios[1]:.1f} |")


class Dropped(SpanExporter):
    """Takes spans, and sends them nowhere."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop spans."""
        return SpanExportResult.SUCCESS


def with_listeners(rounds: int) -> None:
    """Print the cost of a subtask whose run is listened to, or traced by OpenTelemetry's SDK in batches."""
    traces = TracerProvider()
    traces.add_span_processor(BatchSpanProcessor(Dropped(), max_queue_size=10**5))
    measured_by = {"tracer_provider": traces, "meter_provider": MeterProvider([InMemoryMetricReader()])}
    telemetry, less = Telemetry(**measured_by), Telemetry(**measured_by, requests=False)
    print("\nZero latency, in JSON, with listeners, µs per subtask, medians\n")
    print("| subtasks | no listener | one that does nothing | / none | OpenTelemetry | / none | no requests | / none |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for width in (8, 64, 512):
        listeners = ((), (lambda _: None,), (telemetry,), (less,))
        sides = [in_json(JsonEngine(width), width, listeners=each) for each in listeners]
        measured = [[timed(side) for side in sides] for _ in range(rounds)]
        cost = [statistics.median(side) / width * 1e6 for side in zip(*measured, strict=True)]
        ratios = [statistics.median(row[side] / row[0] for row in measured) for side in (1, 2, 3)]
        sides_shown = [f"{each:.1f} | {ratio:.2f}" for each, ratio in zip(cost[1:], ratios, strict=True)]
        print(f"| {width} | {cost[0]:.1f} | {' | '.join(sides_shown)} |")
    traces.shutdown()


def critical_path(rounds: int) -> None:
    """Print how close a run comes to its critical path at 50 ms per request."""
    print("\n50 ms a request, against the critical path; bare: gathered sleeps of 50 ms, nothing before or after\n")
    print("| subtasks | who plans | critical path, ms | measured, ms | ratio | bare ratio |")
    print("|---:|---|---:|---:|---:|---:|")
    for width in (64, 512):
        wall = partial(timed, clock=time.perf_counter)
        plain = statistics.median(wall(partial(bare, width, delay=0.05)) for _ in range(rounds)) / 0.05
        for who, run, path in (
            ("policy", with_policy(width, delay=0.05), 0.05),
            ("model", with_model(width, delay=0.05), 0.15),
            ("model, in JSON", in_json(JsonEngine(width, delay=0.05), width), 0.15),
        ):
            seconds = statistics.median(wall(run) for _ in range(rounds))
            print(f"| {width} | {who} | {path * 1e3:.0f} | {seconds * 1e3:.0f} | {seconds / path:.2f} | {plain:.2f} |")


def growth(rounds: int) -> None:
    """Print the cost of a subtask in ever wider plans, with and without Python's garbage collector."""
    print("\nWider plans, µs per subtask (linear cost: a column does not grow)\n")
    print("| subtasks | sprint-agents | without garbage collection |\n|---:|---:|---:|")
    for width in (100, 1_000, 10_000):
        seconds: list[float] = []
        for collect in (gc.enable, gc.disable):
            collect()
            seconds.append(statistics.median(timed(with_policy(width)) for _ in range(max(1, rounds // 3))))
        gc.enable()
        print(f"| {width} | {' | '.join(f'{each / width * 1e6:.1f}' for each in seconds)} |")


def memory() -> None:
    """Print the memory of a branch."""
    count = 10_000
    parent = State(InstantEngine(1), Context().extend(range(1000), "x" * 4000))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    branches = [parent.branch() for _ in range(count)]
    size = (tracemalloc.get_traced_memory()[0] - before) / count
    for branch in branches:
        branch.context = branch.context.extend((1, 2, 3), "abc")
    grown = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    print(f"\nMemory of a branch over a context of 1,000 tokens: {size:.0f} bytes, {grown:.0f} with 3 more tokens")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    fan_out(rounds)
    runs_in_json(rounds)
    with_tools(rounds)
    with_listeners(rounds)
    critical_path(rounds)
    growth(rounds)
    memory()


if __name__ == "__main__":
    main()
