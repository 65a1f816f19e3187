"""The commands and their options."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import server
from .batch import BatchOptions, solve_batch
from .commands import Commands, VersionFlag
from .inspect import inspect_files
from .logs import LOG_LEVEL, configure_logs
from .options import SolveOptions, with_options
from .run import demonstrate, run_as_json, watch
from .serve import serve as serve_models
from .view import view_files

app = typer.Typer(
    name="sprint",
    cls=Commands,
    help="Interleaved planning and parallel execution for reasoning models.",
    epilog=f"Logs go to stderr; ${LOG_LEVEL} is the lowest level that is shown (default: warning).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(server.app, name="engine")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.callback()
def _configure(  # pyright: ignore[reportUnusedFunction]
    version: VersionFlag = False,
) -> None:
    del version
    configure_logs()


@app.command()
@with_options
def run(
    *,
    options: SolveOptions,
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help='The problem, such as "12 * 345" or "countdown 3 7 25 46", whose last number is the target.',
        ),
    ],
    concurrency: Annotated[int | None, typer.Option(min=1, help="Executions at the same time (default: all).")] = None,
    journal: Annotated[
        Path | None,
        typer.Option(help="A file with one record per stage; if it exists, the run resumes after its last record."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Solve one task: a live tree on a terminal, plain lines elsewhere, one JSON object with --json.

    Exits 0 if the run has an answer, right or wrong; the JSON object of a failed run has its error.
    """
    if as_json:
        asyncio.run(run_as_json(options, task, write=typer.echo, concurrency=concurrency, journal=journal))
    else:
        asyncio.run(watch(options, task, console=Console(), concurrency=concurrency, journal=journal))


@app.command()
@with_options
def batch(
    *,
    options: SolveOptions,
    tasks: Annotated[
        Path | None,
        typer.Argument(metavar="TASKS.jsonl", help='JSON lines: {"task": "…", "id": "…"}; the id is optional.'),
    ] = None,
    gym: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="Instead of a file: generators of reasoning-gym, which score the answers."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Tasks that each generator makes.")] = 20,
    gym_seed: Annotated[int, typer.Option(help="The seed of the generators.")] = 0,
    out: Annotated[
        Path,
        typer.Option(metavar="RUNS.jsonl", help="The file to which each finished run is appended as one JSON line."),
    ],
    concurrency: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 8,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the failed tasks of RUNS.jsonl again.")
    ] = False,
    rollouts: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="Append the token ids of each run, for `sprint-finetune export`."),
    ] = None,
) -> None:
    """Solve many tasks; tasks whose id is in RUNS.jsonl already are skipped, so the same command resumes.

    Exits 0 if every task has a line in RUNS.jsonl; a failed one has an error there.
    """
    batch = BatchOptions(
        tasks=tasks,
        gym=gym,
        count=count,
        gym_seed=gym_seed,
        out=out,
        concurrency=concurrency,
        retry_failed=retry_failed,
        rollouts=rollouts,
    )
    asyncio.run(solve_batch(options, batch, console=Console()))


@app.command()
def inspect(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Text files with one trajectory each, such as a log.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Show the stages, answer, diagnostics and metrics of finished trajectories; with --json one object a line."""
    if not inspect_files(files, console=Console(), as_json=as_json):
        raise typer.Exit(2)


@app.command()
def view(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Files of `sprint batch` or `sprint run --json`, and journals."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.html", help="The page; it needs no other file.")
    ] = Path("runs.html"),
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page instead, and follow files that are still growing.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port of --serve; 0 takes any free one.")] = 0,
) -> None:
    """Write a page that shows runs as charts: branches against time, and the text of each."""
    if serve:
        from .live_view import serve_view  # an optional dependency

        asyncio.run(serve_view(files, port=port, show=show))
        return
    count = view_files(files, out, show=show)
    typer.echo(f"{out}: {count} run{'' if count == 1 else 's'}")


@app.command()
@with_options
def serve(
    *,
    options: SolveOptions,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:NAME|FILE.toml]",
            help="A Sprint in a module of yours, or a mapping of names to them; or a file with a table [models.NAME] "
            "for each model, whose keys are the options below (default: one model, by these options).",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes any free one.")] = 8000,
    key_env: Annotated[
        str, typer.Option(help="The environment variable that holds the key that clients must send; unset for none.")
    ] = "SPRINT_API_KEY",
    concurrency: Annotated[int, typer.Option(min=1, help="Runs at the same time; more are refused.")] = 64,
) -> None:
    """Serve runs with OpenAI's API: chat completions and responses, streamed or not."""
    key = os.environ.get(key_env) or None
    asyncio.run(
        serve_models(target, options, console=Console(), host=host, port=port, key=key, concurrency=concurrency)
    )


@app.command()
@with_options
def demo(*, options: SolveOptions) -> None:
    """Solve five problems that the model has never seen; a program checks each answer."""
    asyncio.run(demonstrate(options, console=Console()))
