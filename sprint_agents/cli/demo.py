"""``sprint demo``: five problems that sprint-nano has never seen."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sprint_agents import Run, Sprint, SprintError

from .display import plain
from .options import SolveOptions
from .run import show

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
