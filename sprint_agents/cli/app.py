"""The commands and their options."""

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from sprint_agents.errors import ConfigurationError

from . import engine
from .batch import solve_file
from .commands import Commands, VersionFlag
from .demo import demonstrate
from .inspect import inspect_files
from .run import run_as_json, watch
from .settings import Settings, with_settings

LOG_LEVEL = "SPRINT_LOG_LEVEL"
"""The environment variable that says which of the library's logs go to stderr: ``debug``, ``info``, ``warning``, …"""


app = typer.Typer(
    name="sprint",
    cls=Commands,
    help="Interleaved planning and parallel execution for reasoning models.",
    epilog=f"The library's logs go to stderr from the level that ${LOG_LEVEL} names (default: warning).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(engine.app, name="engine")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.callback()
def _configure(  # pyright: ignore[reportUnusedFunction]
    version: VersionFlag = False,
) -> None:
    del version
    name = os.environ.get(LOG_LEVEL, "warning")
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise ConfigurationError(f"${LOG_LEVEL} is {name!r}: use debug, info, warning or error")
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Looked up at each use: stderr may have been replaced since.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


@app.command()
@with_settings
def run(
    *,
    settings: Settings,
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help='What to solve, such as "countdown 3 7 25 50 79"; the last number is the target.'
        ),
    ],
    concurrency: Annotated[int | None, typer.Option(min=1, help="Executions under way at once (default: all).")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="A file that gets one record per stage; if it exists, go on after its last.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Solve one task: a live tree on a terminal, plain lines elsewhere, one JSON object with --json.

    Exits 0 if the run came to an answer, right or wrong; the JSON object of a failed run has its error.
    """
    if as_json:
        asyncio.run(run_as_json(settings, task, write=typer.echo, concurrency=concurrency, journal=journal))
    else:
        asyncio.run(watch(settings, task, console=Console(), concurrency=concurrency, journal=journal))


@app.command()
@with_settings
def batch(
    *,
    settings: Settings,
    tasks: Annotated[
        Path, typer.Argument(metavar="TASKS.jsonl", help='JSON lines: {"task": "…", "id": "…"}; the id is optional.')
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="RUNS.jsonl", help="Where each run is appended as one JSON line, as soon as it is finished."
        ),
    ],
    concurrency: Annotated[int, typer.Option(min=1, help="Runs under way at once.")] = 8,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run those of OUT that failed again.")] = False,
) -> None:
    """Solve many tasks; those whose id is in OUT already are skipped, so the same command resumes.

    Exits 0 if all tasks have a line in OUT, failed ones too; see each line's error.
    """
    solve_file(settings, tasks, out, console=Console(), concurrency=concurrency, retry_failed=retry_failed)


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Trajectories in text, also raw logs.")],
    as_json: JsonFlag = False,
) -> None:
    """Read finished trajectories: stages, subtasks, answer, diagnostics and metrics; with --json one object a line."""
    if not inspect_files(files, console=Console(), as_json=as_json):
        raise typer.Exit(2)


@app.command()
@with_settings
def demo(*, settings: Settings) -> None:
    """Watch five problems being solved that the model has never seen; a program checks each answer."""
    asyncio.run(demonstrate(settings, console=Console()))
