"""Typed runs of a real instruct model, SmolLM2-135M, on real engines, and their fan-out.

    make real sglang && python benchmarks/real.py

The first table counts ``--runs`` small typed tasks on each engine, with and without a JSON schema. Run ``n`` has seed
``n``, and ``--at-once`` runs share the engine at a time.

- valid: runs that ended with an answer of the declared type; the model is weak, so it need not be right
- forked: plans with two subtasks or more, of all plans with subtasks; none of these subtasks waits for another
- at once: plans of which two requests ran at the same time: two executions, or one while the planner was writing
- overlapping: plans of which two executions ran at the same time; in the others the first result was there before the
  planner had written the second prompt
- runaways: turns of the planner that were cut off at the limit of tokens
- cached: the share of prompt tokens that the engine read from its cache

The second is a fan-out of ``--width`` executors over about ``--prefix`` tokens: generated tokens per second, first from
an empty cache and then again, and the prompt tokens that were computed. On llama.cpp, slots are copied. ``generate`` is
transformers' own, with all executors' prompts in one batch. Each contender computes on ``--threads`` threads, and
SGLang on one.

Every run is counted in ``--records``, if that is given, and not repeated when the script is started again.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

sys.path.insert(0, str(Path(__file__).parents[1]))

from environments.real.llama_cpp import LlamaCppServer, Options
from environments.real.smollm2 import checkpoint_directory, gguf_file
from sprint_agents import Answer, Executor, Limits, Plan, Planner, Planning, Run, Sampling, Sprint, Stage, Step
from sprint_agents.engine import Chunk, Engine, Request
from sprint_agents.engines import LocalEngine, OpenAIEngine, SGLangEngine, SGLangServer
from sprint_agents.errors import SprintError
from sprint_agents.events import Event, RunFinished
from sprint_agents.markup import markup
from sprint_agents.plan import Execution
from sprint_agents.usage import EngineCall

EngineKind = Literal["local", "llama.cpp", "sglang"]
ENGINES: tuple[EngineKind, ...] = ("local", "llama.cpp", "sglang")
LIMITS = Limits(stages=3, plan_tokens=400, execution_tokens=200, answer_tokens=200, call_seconds=3600)
SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "
SENTENCE_TOKENS = 14
FAN_OUT_TOKENS = 16
ANIMALS = ("dogs", "hens", "cows", "ants", "crabs")


class Count(BaseModel):
    """A typed answer, or the result of a subtask."""

    number: int = Field(ge=0, le=999)


class Counted(BaseModel):
    """What is counted of one run, or of several."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    schema_held: bool
    number: int
    runs: int = 1
    valid: int = 0
    plans: int = 0
    forked: int = 0
    at_once: int = 0
    overlapping: int = 0
    runaways: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    error: str = ""

    def __add__(self, other: "Counted") -> "Counted":
        """Count both."""
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name, field in type(self).model_fields.items()
            if field.annotation is int and name != "number"
        }
        return self.model_copy(update=sums)

    def row(self) -> str:
        """Write the row of the table."""
        cached = self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0
        cells = (
            self.engine,
            "yes" if self.schema_held else "no",
            f"{self.valid}/{self.runs}",
            f"{self.forked}/{self.plans}",
            f"{self.at_once}/{self.plans}",
            f"{self.overlapping}/{self.plans}",
            f"{self.runaways}",
            f"{cached:.0%}",
        )
        return f"| {' | '.join(cells)} |"


def count(events: Sequence[Event], *, engine: str, schema: bool, number: int) -> Counted:
    """Count a run by its events."""
    run = next(event.run for event in events if isinstance(event, RunFinished))
    stages = [stage for stage in run.stages if stage.executions]
    plans = [stage.executions for stage in stages]
    faults = [fault for stage in run.stages for fault in stage.diagnostics]
    return Counted(
        engine=engine,
        schema_held=schema,
        number=number,
        valid=run.error is None,
        plans=len(plans),
        forked=sum(len(executions) > 1 for executions in plans),
        at_once=sum(overlap([*stage.calls, *stage.executions]) for stage in stages),
        overlapping=sum(overlap(executions) for executions in plans),
        runaways=sum(fault.kind == "cut_off" and fault.number is None for fault in faults),
        prompt_tokens=run.usage.prompt_tokens,
        cached_tokens=run.usage.cached_tokens,
        generated_tokens=run.usage.total_tokens,
        error="" if run.error is None else str(run.error),
    )


def overlap(works: Sequence[Execution[Any] | EngineCall]) -> bool:
    """Say whether two of these ran at the same time."""
    times = sorted((work.started, work.ended) for work in works)
    return any(ended > started for (_, ended), (started, _) in itertools.pairwise(times))


def tasks(count: int) -> Iterator[str]:
    """Generate small tasks of two parts."""
    for number in range(count):
        first, second = ANIMALS[number % 5], ANIMALS[(number // 5 + number + 1) % 5]
        yield f"How many legs do {number % 4 + 2} {first} and {number % 3 + 2} {second} have in all?"


async def events_of(sprint: Sprint[Any, Any], task: str) -> list[Event]:
    """Run one task, and return its events up to the last, whether or not it has an answer."""
    events: list[Event] = []
    with suppress(SprintError):  # the last event has the run with its error
        async with sprint.stream(task) as stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401 - what came before an error counts
    return events


async def typed_runs(engine: Engine, name: str, *, schema: bool, options: argparse.Namespace) -> Counted:
    """Count all runs on an engine, those in the records of an earlier start included."""
    places = asyncio.Semaphore(options.at_once)
    counted = {
        one.number: one for one in read_records(options.records) if (one.engine, one.schema_held) == (name, schema)
    }
    held = engine if schema else Unheld(engine)

    async def one(number: int, task: str) -> None:
        async with places:
            sprint = Sprint(
                held,  # type: ignore[arg-type]
                planner=Planner(Count, attempts=3),
                executor=Executor(Count, attempts=3),
                limits=LIMITS,
                sampling=Sampling(temperature=0.6, seed=number),
            )
            events = await events_of(sprint, task)
        counted[number] = found = count(events, engine=name, schema=schema, number=number)
        if options.records is not None:
            with options.records.open("a", encoding="utf-8") as file:
                file.write(found.model_dump_json() + "\n")
        print(f"{len(counted)}/{options.runs}: {found.row()} {found.error}", file=sys.stderr, flush=True)

    async with asyncio.TaskGroup() as group:
        for number, task in enumerate(tasks(options.runs)):
            if number not in counted:
                group.create_task(one(number, task))
    first, *others = (counted[number] for number in range(options.runs))
    return sum(others, start=first)


def read_records(path: Path | None) -> list[Counted]:
    """Read the runs that were counted before."""
    if path is None or not path.exists():
        return []
    return [Counted.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def fan_out(engine: Engine, *, width: int, prefix: int) -> str:
    """Let ``width`` executors read one prefix, twice."""

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


def generate(prompts: Sequence[Sequence[int]], *, dtype: str) -> str:
    """Complete all prompts by transformers' ``generate``, in one batch that is padded on the left."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint_directory(), dtype=dtype)
    longest, end = max(map(len, prompts)), model.generation_config.eos_token_id
    ids = torch.tensor([[end] * (longest - len(prompt)) + [*prompt] for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    started = perf_counter()
    output = model.generate(ids, attention_mask=mask, max_new_tokens=FAN_OUT_TOKENS, do_sample=False, pad_token_id=end)
    rows = [row[: row.index(end) + 1] if end in row else row for row in output[:, longest:].tolist()]
    rate = sum(map(len, rows)) / (perf_counter() - started)
    return f"{rate:.1f} | - | {sum(map(len, prompts)):,} | -"


@dataclass
class Unheld:
    """An engine that holds no completion to a schema."""

    engine: Engine

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    @property
    def capabilities(self) -> object:
        """Those of the engine, without schemas."""
        return replace(self.engine.capabilities, schemas=False)


class Prompts(Unheld):
    """An engine that remembers the prompts of executors."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.prompts: list[list[int]] = []

    def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Complete as the engine does."""
        if request.max_tokens == FAN_OUT_TOKENS:
            self.prompts.append(request.context.ids_since(None))
        return self.engine.complete(request)  # type: ignore[return-value]


@contextmanager
def served(kind: EngineKind, *, slots: int, threads: int, dtype: str) -> Generator[Engine]:
    """Run the model on an engine of this kind, with its server for as long as the block lasts."""
    if kind == "local":
        yield LocalEngine(checkpoint_directory(), threads=threads, dtype=dtype)
    elif kind == "llama.cpp":
        with tempfile.TemporaryDirectory() as saved:
            options = Options(context=2048 * slots, slots=slots, save_path=saved, threads=threads)
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


async def system_tokens(answer: type, result: type) -> int:
    """Count the tokens before the task, in a run that ends after a token."""
    async with LocalEngine(checkpoint_directory()) as engine:
        limits = Limits(stages=1, plan_tokens=1, answer_tokens=1)
        sprint = Sprint(engine, planner=Planner(answer, attempts=1), executor=Executor(result), limits=limits)
        task = next(tasks(1))
        (run,) = (event.run for event in await events_of(sprint, task) if isinstance(event, RunFinished))
        return len(await engine.encode(markup(run.transcript.partition(task)[0])))


async def measure(kind: EngineKind, engine: Engine, options: argparse.Namespace) -> list[str]:
    """Measure one engine; print its rows of the first table, and return those of the second."""
    rows: list[str] = []
    async with engine:  # type: ignore[attr-defined]
        if options.width:
            asked = Prompts(engine)
            rows.append(f"| {kind} | {await fan_out(asked, width=options.width, prefix=options.prefix)} |")  # type: ignore[arg-type]
            if kind == "local":
                rows.append(f"| generate | {generate(asked.prompts[: options.width], dtype=options.dtype)} |")
            print(*rows, sep="\n", file=sys.stderr, flush=True)
        for schema in [word == "yes" for word in options.schemas if options.runs]:
            print((await typed_runs(engine, kind, schema=schema, options=options)).row(), flush=True)
    return rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="0 for none")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--schemas", nargs="+", choices=("yes", "no"), default=("yes", "no"))
    parser.add_argument("--width", type=int, default=16, help="0 for no fan-out")
    parser.add_argument("--prefix", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32", help="of LocalEngine and generate; llama.cpp has 4 bits")
    parser.add_argument("--records", type=Path, help="a file of finished runs")
    options = parser.parse_args()
    rows: list[str] = []
    print(
        "| engine | schema | valid | forked | at once | overlapping | runaways | cached |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|",
        flush=True,
    )
    for kind in options.engines:
        with served(
            kind, slots=options.width or options.at_once, threads=options.threads, dtype=options.dtype
        ) as engine:
            rows += asyncio.run(measure(kind, engine, options))
    print("\n| engine | cold, tokens/s | warm, tokens/s | computed, cold | computed, warm |\n|---|---:|---:|---:|---:|")
    print(*rows, sep="\n")
    texts, typed = (asyncio.run(system_tokens(one, one)) for one in (str, Count))
    print(f"\nThe system turn has {texts} tokens for texts, {typed} for the type of these runs.")


if __name__ == "__main__":
    main()
