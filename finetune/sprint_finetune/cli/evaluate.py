"""``sprint-finetune evaluate``."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sprint_agents import Engine, Policy
from sprint_agents.cli.commands import printable
from sprint_agents.cli.loading import load_object
from sprint_agents.cli.options import ModelOptions
from sprint_agents.errors import ConfigurationError
from sprint_agents.functions import check_function
from sprint_agents.gym import Gym
from sprint_agents.policies import find_policy, self_consistency
from sprint_finetune.evaluation import (
    Case,
    CaseFile,
    Check,
    Methods,
    OutcomeFile,
    as_csv,
    as_json,
    compare,
    draw,
    grader,
    held_out,
    held_out_problems,
    load_cases,
    markdown,
    summarise,
)
from sprint_finetune.evaluation.intervals import RESAMPLES

TWIN = "sequential"
"""The method that all others are compared with: a single chain, by the twin model if there is one."""

_GYM = "gym:"
"""What precedes the names of reasoning-gym's generators."""
_VOTES = ("self_consistency", "confidence_vote")
"""Policies that compare several attempts, which are all the same if decoding is greedy."""
_BOOTSTRAP_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModel(ModelOptions):
    """The model to evaluate: as for ``sprint run``, but greedy by default."""

    temperature: Annotated[float | None, typer.Option(min=0, help="Sampling temperature; 0 is greedy.")] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """The options of ``evaluate``; ``twin`` and ``twin_url`` name the sequential twin, if it is another model."""

    cases: str
    model: EvaluatedModel
    twin: str | None
    twin_url: str | None
    policies: Sequence[str]
    samples: int
    checker: str | None
    check_seconds: float
    seeds: int
    count: int
    concurrency: int
    out: Path


def run_evaluation(options: EvaluateOptions) -> None:
    """Evaluate, print the tables, and write ``table.md``, ``.csv``, ``.json`` and ``plot.svg`` beside the outcomes.

    Raises:
        ConfigurationError: there are no such cases, model, policy or checker.
    """
    console = Console(soft_wrap=True, highlight=False)
    with OutcomeFile(options.out / "outcomes.jsonl") as outcomes:
        source = asyncio.run(_evaluate(options, outcomes))
        _report_errors(outcomes, source.cases)
        rows = summarise(outcomes, twin=TWIN, cases={case.id for case in source.cases}, seed=_BOOTSTRAP_SEED)
    about = f"{options.cases}: {len(source.cases)} cases, {options.seeds} seeds"
    note = (
        "Intervals: accuracies Wilson's, differences Newcombe's for paired cases, p McNemar's exact test, ratios a "
        f"bootstrap of {RESAMPLES} draws of the cases with seed {_BOOTSTRAP_SEED}."
    )
    table = markdown(rows, twin=TWIN)
    (options.out / "table.md").write_text(f"{table}\n{note}\n", encoding="utf-8")
    (options.out / "table.csv").write_text(as_csv(rows), encoding="utf-8")
    (options.out / "table.json").write_text(
        as_json(
            rows,
            cases=source.model_dump(mode="json", exclude={"cases"}) | {"count": len(source.cases)},
            twin=TWIN,
            bootstrap={"resamples": RESAMPLES, "seed": _BOOTSTRAP_SEED},
        ),
        encoding="utf-8",
    )
    draw(rows, options.out / "plot.svg", title=about)
    console.print(f"{table}\n{note}", markup=False)


def grade_answer(reference: str, answer: str, *, problem: str) -> str:
    """Return "right", "wrong" or "undecided"."""

    async def graded() -> bool | None:
        async with grader() as check:
            return await check(Case(id="1", task=problem, answer=reference), answer)

    return {True: "right", False: "wrong", None: "undecided"}[asyncio.run(graded())]


async def _evaluate(options: EvaluateOptions, outcomes: OutcomeFile) -> CaseFile:
    """Add the missing outcomes, and return the cases."""
    async with AsyncExitStack() as opened:
        gym = await opened.enter_async_context(Gym()) if options.cases.startswith(_GYM) else None
        source = await _cases(options, gym)
        check = await opened.enter_async_context(_check(options, gym))
        methods = await opened.enter_async_context(_methods(options))
        total = len(source.cases) * options.seeds * len(methods)
        bar = opened.enter_context(_bar())
        task = bar.add_task("solving", total=total, completed=min(total, len(outcomes.outcomes)))
        await compare(
            methods,
            source.cases,
            seeds=range(options.seeds),
            out=outcomes,
            check=check,
            check_seconds=options.check_seconds,
            on_outcome=lambda _: bar.advance(task),
            concurrency=options.concurrency,
        )
        return source


async def _cases(options: EvaluateOptions, gym: Gym | None) -> CaseFile:
    """Read or make the cases; what was read of a file is reported on stderr."""
    name = options.cases
    if gym is not None:
        names = [name.strip() for name in name.removeprefix(_GYM).split(",")]
        tasks = await gym.tasks(names, count=options.count)
        cases = [Case(id=task.id, task=task.task, gym=task) for task in tasks]
        return CaseFile(path=Path(name), cases=tuple(cases), formats={"gym": len(cases)})
    if name in ("countdown", "arithmetic", "multiplication"):
        cases = held_out(held_out_problems(name), name=name, count=options.count)
        return CaseFile(path=Path(name), cases=tuple(cases), formats={name: len(cases)})
    source = load_cases(Path(name), limit=options.count, checker=options.checker is not None)
    Console(stderr=True, soft_wrap=True, highlight=False).print(str(source), markup=False)
    return source


@asynccontextmanager
async def _check(options: EvaluateOptions, gym: Gym | None) -> AsyncGenerator[Check]:
    """Open what decides whether answers are right: your function, reasoning-gym, or the grader."""
    if options.checker is not None:
        function = load_object(options.checker, wanted="MODULE:FUNCTION or FILE.py:FUNCTION, as in checks.py:is_right")
        check_function(function, what=f"--checker {options.checker}")
        yield cast(Check, function)
        return
    async with grader() as by_value:

        async def check(case: Case, answer: str) -> bool | None:
            if case.gym is not None and gym is not None:
                return await gym.is_right(case.gym, answer)
            return await by_value(case, answer)

        yield check


@asynccontextmanager
async def _methods(options: EvaluateOptions) -> AsyncGenerator[Methods]:
    """Open the model, and its twin if that is another one, and make a method of each policy."""
    model = options.model
    policies = {name: _policy(name, options) for name in dict.fromkeys(options.policies) if name != TWIN}
    async with AsyncExitStack() as opened:
        engine = await opened.enter_async_context(model.open())
        twin: Engine = engine
        if options.twin is not None or options.twin_url is not None:
            other = replace(model, model=options.twin or model.model, url=options.twin_url or model.url)
            twin = await opened.enter_async_context(other.open())
        methods = {TWIN: model.sprint_on(twin, policy=TWIN)}
        methods |= {name: model.sprint_on(engine, policy=policy) for name, policy in policies.items()}
        yield methods


def _policy(name: str, options: EvaluateOptions) -> Policy | str:
    """Return a policy, before a model is loaded.

    Raises:
        ConfigurationError: there is no such policy, or it makes no sense at this temperature.
    """
    find_policy(name)
    if name in _VOTES and options.model.temperature == 0:
        raise ConfigurationError(
            f"{name} at temperature 0 draws the same answer every time: give a --temperature, such as 0.7"
        )
    return self_consistency(samples=options.samples) if name == "self_consistency" else name


def _report_errors(outcomes: OutcomeFile, cases: Sequence[Case]) -> None:
    """Say on stderr what went wrong besides wrong answers."""
    console, asked = Console(stderr=True, soft_wrap=True, highlight=False), {case.id for case in cases}
    found = [outcome for outcome in outcomes.outcomes.values() if outcome.case in asked]
    if failed := [outcome for outcome in found if outcome.error is not None]:
        kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(outcome.error for outcome in failed).items())
        first = printable(failed[0].error_message or "")
        console.print(f"{len(failed)} runs failed ({kinds}), the first one: {first}", markup=False)
    if again := sum(outcome.is_no_fault for outcome in found):
        console.print(f"{again} of them failed because the engine was unavailable: the same command repeats them")
    if broken := [outcome for outcome in found if outcome.check_error is not None]:
        first = printable(broken[0].check_error or "")
        console.print(f"{len(broken)} answers were not checked, the first one: {first}", markup=False)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
