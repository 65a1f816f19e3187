"""``sprint inspect``: the numbers of finished trajectories."""

from collections.abc import Sequence
from pathlib import Path

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sprint_agents.errors import ConfigurationError
from sprint_agents.inspection import Inspection, inspect_file

from .commands import error_line
from .display import plain


def inspect_files(files: Sequence[Path], *, console: Console, as_json: bool) -> bool:
    """Print the stages, answer and metrics of each file; report an unreadable file on stderr and continue.

    Returns:
        Whether all files could be read.
    """
    unread = 0
    for file in files:
        try:
            inspection = inspect_file(file)
        except ConfigurationError as error:
            typer.echo(error_line(error), err=True)
            unread += 1
            continue
        if as_json:
            typer.echo(inspection.model_dump_json())
        else:
            _write(inspection, console)
    return not unread


def _write(inspection: Inspection, console: Console) -> None:
    console.print(Text(inspection.file, style="bold"), soft_wrap=True)
    if inspection.stages:
        console.print(_stages(inspection))
    answer = "none" if inspection.answer is None else plain(inspection.answer)
    unit = inspection.token_unit
    lines = [
        f"answer          {answer}",
        f"total           {inspection.total_tokens:,} {unit}",
        f"in sequence     {inspection.sequential_tokens_strict:,} {unit} "
        f"({inspection.sequential_tokens:,} as the paper counts)",
        f"width           {inspection.width}",
        f"steps per stage {inspection.parallelisation_ratio:.2f}",
        *(f"{item.kind} at {item.position}: {item.message}" for item in inspection.diagnostics),
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    console.print()


def _stages(inspection: Inspection) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("stage")
    for title in ("plan", "subtask", "plan before", "execution"):
        table.add_column(title, justify="right")
    for stage in inspection.stages:
        name, plan = str(stage.number), f"{stage.plan_tokens:,}"
        for subtask in stage.subtasks:
            execution = f"{subtask.execution_tokens:,}" if subtask.executed else "none"
            table.add_row(name, plan, subtask.number, f"{subtask.plan_tokens:,}", execution)
            name = plan = ""
        if not stage.subtasks:
            table.add_row(name, plan, "", "", "")
    return table
