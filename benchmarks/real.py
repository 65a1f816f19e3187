"""Typed runs of a real instruct model, SmolLM2-135M, on real engines, and their fan-out.

    make real sglang && python benchmarks/real.py

The first table counts ``--runs`` small typed tasks on each engine, with and without a JSON schema:

- valid: runs that ended with an answer of the declared type; the model is weak, so it need not be right
- parallel: plans whose second subtask started before the first one had finished, of the plans with two or more
- runaways: plans that reached the limit of tokens
- cached: the share of prompt tokens that the engine read from its cache

The second is a fan-out of ``--width`` executors over about ``--prefix`` tokens: generated tokens per second, first from
an empty cache and then again, and the prompt tokens that were computed. On llama.cpp, slots are copied.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Literal

from pydantic import BaseModel, Field

sys.path.insert(0, str(Path(__file__).parents[1]))

from environments.real.llama_cpp import LlamaCppServer, Options
from environments.real.smollm2 import checkpoint_directory, gguf_file
from sprint_agents import Answer, Executor, Limits, Plan, Planner, Planning, Run, Sampling, Sprint, Stage, Step
from sprint_agents.engine import Engine
from sprint_agents.engines import LocalEngine, OpenAIEngine, SGLangEngine, SGLangServer
from sprint_agents.errors import SprintError
from sprint_agents.events import Event, ExecutionFinished, PlannerWrote, RunFinished, SubtaskStarted
from sprint_agents.markup import markup

EngineKind = Literal["local", "llama.cpp", "sglang"]
ENGINES: tuple[EngineKind, ...] = ("local", "llama.cpp", "sglang")
LIMITS = Limits(stages=3, plan_tokens=400, execution_tokens=200, answer_tokens=200)
SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "
SENTENCE_TOKENS = 14
FAN_OUT_TOKENS = 16
ANIMALS = ("dogs", "hens", "cows", "ants", "crabs")


class Count(BaseModel):
    """A typed answer, or the result of a subtask."""

    number: int = Field(ge=0, le=999)


@dataclass
class Tally:
    """The counts of one row of the first table."""

    runs: int = 0
    valid: int = 0
    plans: int = 0
    parallel: int = 0
    runaways: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0

    def add(self, events: list[Event]) -> None:
        """Count a run by its events."""
        self.runs += 1
        for event in events:
            if isinstance(event, RunFinished):
                self.valid += event.run.error is None
                self.prompt_tokens += event.run.usage.prompt_tokens
                self.cached_tokens += event.run.usage.cached_tokens
                for stage in event.run.stages:
                    self._add_stage(stage.number, events)

    def _add_stage(self, number: int, events: list[Event]) -> None:
        mine = [event for event in events if getattr(event, "stage", None) == number]
        written = max((event.tokens for event in mine if isinstance(event, PlannerWrote)), default=0)
        self.runaways += written >= LIMITS.plan_tokens
        steps = [event for event in mine if isinstance(event, SubtaskStarted | ExecutionFinished)]
        if sum(isinstance(step, SubtaskStarted) for step in steps) > 1:
            self.plans += 1
            self.parallel += all(isinstance(step, SubtaskStarted) for step in steps[:2])

    def row(self) -> str:
        """Write the columns."""
        cached = self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0
        return f"{self.valid}/{self.runs} | {self.parallel}/{self.plans} | {self.runaways} | {cached:.0%}"


def tasks(count: int) -> Iterator[str]:
    for number in range(count):
        first, second = ANIMALS[number % 5], ANIMALS[(number // 5 + number + 1) % 5]
        yield f"How many legs do {number % 4 + 2} {first} and {number % 3 + 2} {second} have in all?"


async def typed_runs(engine: Engine, count: int) -> Tally:
    tally = Tally()
    for number, task in enumerate(tasks(count)):
        sprint = Sprint(
            engine,
            planner=Planner(Count, attempts=3),
            executor=Executor(Count, attempts=3),
            limits=LIMITS,
            sampling=Sampling(temperature=0.6, seed=number),
        )
        events: list[Event] = []
        with suppress(SprintError):  # the last event has the run with its error
            async with sprint.stream(task) as stream:
                async for event in stream:
                    events.append(event)  # noqa: PERF401 - what came before an error counts
        tally.add(events)
    return tally


async def fan_out(engine: Engine, *, width: int, prefix: int) -> str:
    async def wide(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
        yield Plan.of(*(f"Part {number}" for number in range(width)))
        yield Answer(value="done")

    async def one() -> tuple[float, Run[str, str]]:
        limits = Limits(execution_tokens=FAN_OUT_TOKENS)
        executor = Executor(str, attempts=1)
        sprint = Sprint(engine, policy=wide, executor=executor, limits=limits, sampling=Sampling(temperature=0))
        started = perf_counter()
        run = await sprint.run(SENTENCE * (prefix // SENTENCE_TOKENS))
        return run.usage.total_tokens / (perf_counter() - started), run

    (cold, first), (warm, second) = await one(), await one()
    computed = [run.usage.recomputed_tokens for run in (first, second)]
    return f"{cold:.1f} | {warm:.1f} | {computed[0]:,} | {computed[1]:,}"


class Unheld:
    """An engine that holds no completion to a schema."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    @property
    def capabilities(self) -> object:
        """Those of the engine, without schemas."""
        return replace(self._engine.capabilities, schemas=False)


@contextmanager
def served(kind: EngineKind, *, slots: int) -> Iterator[Engine]:
    if kind == "local":
        yield LocalEngine(checkpoint_directory())
    elif kind == "llama.cpp":
        with tempfile.TemporaryDirectory() as saved:
            options = Options(context=2048 * slots, slots=slots, save_path=saved)
            with LlamaCppServer(gguf_file(), options) as server:
                yield OpenAIEngine(f"{server.url}/v1", model=server.name, server="llama.cpp")
    else:
        python = Path(__file__).parents[1] / ".venv-sglang" / "bin" / "python"
        server = SGLangServer(checkpoint_directory(), python=python)
        try:
            asyncio.run(server.start())
            yield SGLangEngine(server.url, tokenizer=checkpoint_directory())
        finally:
            asyncio.run(server.stop())


async def system_tokens() -> int:
    """Count the tokens before the task, in a run that ends after a token."""
    async with LocalEngine(checkpoint_directory()) as engine:
        limits = Limits(stages=1, plan_tokens=1, answer_tokens=1)
        sprint = Sprint(engine, planner=Planner(Count, attempts=1), executor=Executor(Count), limits=limits)
        task = next(tasks(1))
        events: list[Event] = []
        with suppress(SprintError):
            async with sprint.stream(task) as stream:
                async for event in stream:
                    events.append(event)  # noqa: PERF401 - what came before an error counts
        (run,) = (event.run for event in events if isinstance(event, RunFinished))
        return len(await engine.encode(markup(run.transcript.partition(task)[0])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--prefix", type=int, default=500)
    options = parser.parse_args()
    rows: list[str] = []
    print("| engine | schema | valid | parallel | runaways | cached |\n|---|---|---:|---:|---:|---:|")
    for kind in options.engines:
        with served(kind, slots=options.width) as engine:

            async def measure(kind: str = kind, engine: Engine = engine) -> None:
                async with engine:  # type: ignore[attr-defined]
                    rows.append(f"| {kind} | {await fan_out(engine, width=options.width, prefix=options.prefix)} |")
                    for name, held in (("yes", engine), ("no", Unheld(engine))):
                        tally = await typed_runs(held, options.runs)  # type: ignore[arg-type]
                        print(f"| {kind} | {name} | {tally.row()} |", flush=True)

            asyncio.run(measure())
    print("\n| engine | cold, tokens/s | warm, tokens/s | computed, cold | computed, warm |\n|---|---:|---:|---:|---:|")
    print(*rows, sep="\n")
    print(f"\nThe system turn has {asyncio.run(system_tokens())} tokens.")


if __name__ == "__main__":
    main()
