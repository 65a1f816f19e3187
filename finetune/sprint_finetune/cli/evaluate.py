"""``sprint-finetune evaluate``."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sprint_agents import Sampling
from sprint_agents.engines import LocalEngine
from sprint_agents.gym import Gym
from sprint_agents.nano import nano_path
from sprint_finetune.evaluation import (
    Case,
    Method,
    OutcomeFile,
    Row,
    compare,
    grader,
    held_out,
    held_out_problems,
    load_cases,
    summarise,
)
from sprint_finetune.evaluation.plots import draw
from sprint_finetune.evaluation.summary import markdown

TWIN = "sequential"
"""The method that all others are compared with: a single chain, on the twin's checkpoint if there is one."""

_GYM = "gym:"
"""What precedes the names of reasoning-gym's generators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """The options of ``evaluate``. ``twin`` is the checkpoint of the sequential twin, by default the model itself."""

    cases: str
    model: Path | None
    twin: Path | None
    policies: Sequence[str]
    seeds: int
    temperature: float
    count: int
    concurrency: int
    out: Path


def run_evaluation(options: EvaluateOptions) -> None:
    """Evaluate, print the table, and write ``table.md``, ``table.json`` and ``plot.svg`` beside the outcomes.

    Raises:
        ConfigurationError: there are no such cases, model or policy.
    """
    with OutcomeFile(options.out / "outcomes.jsonl") as outcomes:
        cases = asyncio.run(_evaluate(options, outcomes))
        rows = summarise(outcomes, twin=TWIN)
    table = markdown(rows)
    (options.out / "table.md").write_text(table, encoding="utf-8")
    _write_json(rows, options.out / "table.json")
    draw(rows, options.out / "plot.svg", title=f"{options.cases}: {len(cases)} cases, {options.seeds} seeds")
    Console(soft_wrap=True, highlight=False).print(table, markup=False)


def grade_answer(reference: str, answer: str, *, problem: str) -> str:
    """Return "right", "wrong" or "undecided"."""

    async def graded() -> bool | None:
        async with grader() as check:
            return await check(Case(id="1", task=problem, answer=reference), answer)

    return {True: "right", False: "wrong", None: "undecided"}[asyncio.run(graded())]


async def _evaluate(options: EvaluateOptions, outcomes: OutcomeFile) -> list[Case]:
    """Add the missing outcomes, and return the cases."""
    async with AsyncExitStack() as opened:
        gym = await opened.enter_async_context(Gym()) if options.cases.startswith(_GYM) else None
        cases = await _cases(options, gym)
        await _compare(options, cases, outcomes, gym)
        return cases


async def _cases(options: EvaluateOptions, gym: Gym | None) -> list[Case]:
    if gym is not None:
        names = [name.strip() for name in options.cases.removeprefix(_GYM).split(",")]
        tasks = await gym.tasks(names, count=options.count)
        return [Case(id=task.id, task=task.task, gym=task) for task in tasks]
    if options.cases in ("countdown", "arithmetic", "multiplication"):
        return held_out(held_out_problems(options.cases), name=options.cases, count=options.count)
    return load_cases(Path(options.cases), limit=options.count)


async def _compare(options: EvaluateOptions, cases: Sequence[Case], outcomes: OutcomeFile, gym: Gym | None) -> None:
    async with AsyncExitStack() as opened:
        model = await opened.enter_async_context(LocalEngine(options.model or nano_path()))
        twin = await opened.enter_async_context(LocalEngine(options.twin)) if options.twin else model
        sampling = Sampling(temperature=options.temperature)
        methods = [Method(name=TWIN, engine=twin, policy="sequential", sampling=sampling)]
        methods += [
            Method(name=policy, engine=model, policy=policy, sampling=sampling)
            for policy in options.policies
            if policy != TWIN
        ]
        for method in methods:
            method.sprint(seed=0)  # raise for an unknown policy before anything runs
        by_value = await opened.enter_async_context(grader())

        async def check(case: Case, answer: str) -> bool | None:
            if case.gym is not None and gym is not None:
                return await gym.is_right(case.gym, answer)
            return await by_value(case, answer)

        bar = opened.enter_context(_bar())
        task = bar.add_task(
            "solving", total=len(cases) * options.seeds * len(methods), completed=len(outcomes.outcomes)
        )
        await compare(
            methods,
            cases,
            seeds=range(options.seeds),
            out=outcomes,
            check=check,
            on_outcome=lambda _: bar.advance(task),
            concurrency=options.concurrency,
        )


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


def _write_json(rows: Sequence[Row], path: Path) -> None:
    path.write_text(json.dumps([row.model_dump() for row in rows], indent=2) + "\n", encoding="utf-8")
