"""``sprint engine``: an SGLang server that keeps running after the command, one per folder."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from sprint_agents.engines.sglang.server import DetachedServer, find_detached, start_detached, stop_detached
from sprint_agents.nano import nano_path

from .engines import STATE

_BUILT = Path(".venv-sglang/bin/python")

StateOption = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Where the server is recorded; each folder has at most one.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]

app = typer.Typer(help="Start, show and stop your own SGLang server.", no_args_is_help=True)


@app.command()
def up(
    model: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint directory (default: sprint-nano, which is part of the package).", metavar="DIR"
        ),
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(
            help=f"The interpreter of an environment with SGLang (default: {_BUILT} if `make sglang` built it, "
            "else the running interpreter)."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 0,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGUMENTS", help="More arguments for sglang.launch_server.")
    ] = None,
    state: StateOption = STATE,
    as_json: JsonFlag = False,
) -> None:
    """Start a server and wait until it is ready; `sprint run --engine sglang` then uses it."""
    if python is None and _BUILT.exists():
        python = _BUILT
    state.mkdir(parents=True, exist_ok=True)
    server = asyncio.run(
        start_detached(state, model or nano_path(), python=python, port=port, arguments=tuple(arguments or ()))
    )
    _print(server, "up", as_json=as_json)


@app.command()
def status(state: StateOption = STATE, as_json: JsonFlag = False) -> None:
    """Show the running server; exits 1 if there is none."""
    server = find_detached(state)
    _print(server, "up", as_json=as_json)
    if server is None:
        raise typer.Exit(1)


@app.command()
def down(state: StateOption = STATE, as_json: JsonFlag = False) -> None:
    """Stop the server and all its processes; do nothing if there is none."""
    _print(asyncio.run(stop_detached(state)), "stopped", as_json=as_json)


def _print(server: DetachedServer | None, state: str, *, as_json: bool) -> None:
    if as_json:
        line = json.dumps(None) if server is None else server.model_dump_json()
    elif server is None:
        line = "no server is up"
    else:
        line = f"{state}: {server.url} serves {server.checkpoint}, process {server.process.pid}, log {server.log}"
    typer.echo(line)
