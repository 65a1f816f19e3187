"""``sprint run`` and ``sprint demo``: solve one task, or five known ones, with JSON output or a live display."""

import secrets
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sprint_agents import Run, Sprint, SprintError
from sprint_agents.events import RunFinished
from sprint_agents.plan import Failure

from .display import Lines, LiveTree, can_redraw, plain
from .engines import describe
from .options import SolveOptions


async def run_as_json(
    options: SolveOptions,
    task: str,
    *,
    write: Callable[[str], object],
    concurrency: int | None = None,
    journal: Path | None = None,
) -> None:
    """Solve ``task`` and write its run as one JSON object, even if it fails.

    Raises:
        SprintError: the run failed, or could not start; its object has been written.
    """
    try:
        async with options.sprint(concurrency=concurrency) as sprint:
            run = await sprint.run(task, journal=journal)
    except SprintError as error:
        failed = error.run or Run[str](
            id=secrets.token_hex(8), task=task, policy=options.policy, error=Failure.of(error)
        )
        write(failed.model_dump_json())
        raise
    write(run.model_dump_json())


async def watch(
    options: SolveOptions, task: str, *, console: Console, concurrency: int | None = None, journal: Path | None = None
) -> None:
    """Solve ``task`` and show its progress.

    Raises:
        SprintError: the run failed, or could not start; its progress has been shown.
    """
    async with options.sprint(concurrency=concurrency, console=console) as sprint:
        await show(sprint, task, console=console, journal=journal)


async def show(sprint: Sprint, task: str, *, console: Console, journal: Path | None = None) -> Run[object]:
    """Run a task and show a live tree, or plain lines if ``console`` cannot redraw.

    Raises:
        SprintError: the run failed; its progress has been shown.
    """
    run: Run[object] | None = None
    display = LiveTree if can_redraw(console) else Lines
    with display(console, engine=describe(sprint.engine)) as shown:
        async with sprint.stream(task, journal=journal) as events:
            async for event in events:
                shown.show(event)
                if isinstance(event, RunFinished):
                    run = event.run
    assert run is not None  # a run without RunFinished raises
    return run


# The first five of `sprint_finetune.nano.countdown.problems(seed=0, split="held_out")`; a test regenerates them.
PROBLEMS = (
    "countdown 20 3 15 45",
    "countdown 21 2 9 22 50",
    "countdown 5 39 37 71",
    "countdown 36 29 8 24 23",
    "countdown 35 18 5 29 51",
)
"""Countdown problems of 3 and 4 numbers that no training run has read."""

_NARROWEST = 100
"""Columns of the table if there is no terminal."""


async def demonstrate(options: SolveOptions, *, console: Console) -> None:
    """Solve ``PROBLEMS`` one after the other, and print a table of all runs, failed ones too.

    Raises:
        ConfigurationError: there is no such policy or checkpoint, or an extra is missing.
    """
    async with options.sprint(console=console) as sprint:
        runs = [await _solve(sprint, problem, console) for problem in PROBLEMS]
    if not console.is_terminal:
        console = Console(file=console.file, width=_NARROWEST)
    console.print(_table(runs))
    right = sum(run.verified is True for run in runs)
    console.print(f"{right} of {len(runs)} solved, each answer checked by a program.", highlight=False)


async def _solve(sprint: Sprint, problem: str, console: Console) -> Run[object]:
    try:
        run = await show(sprint, problem, console=console)
    except SprintError as error:
        if error.run is None:
            raise
        run = error.run
    console.print()
    return run


def _table(runs: list[Run[object]]) -> Table:
    table = Table(box=box.SIMPLE, collapse_padding=True, pad_edge=False)
    table.add_column("task", no_wrap=True)
    table.add_column("answer", overflow="fold")
    table.add_column("checked")
    for title in ("stages", "width", "sequential", "total tokens", "seconds"):
        table.add_column(title, justify="right")
    for run in runs:
        usage = run.usage
        table.add_row(
            run.task.removeprefix("countdown "),
            Text(plain(str(run.answer)) if run.error is None else run.error.type),
            {True: "right", False: "wrong", None: "-"}[run.verified],
            str(usage.stages),
            str(usage.width),
            f"{usage.sequential_tokens_strict:,}",
            f"{usage.total_tokens:,}",
            f"{usage.seconds:.2f}",
        )
    return table
