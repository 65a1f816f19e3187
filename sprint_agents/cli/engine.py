"""``sprint engine``: a real SGLang server that goes on after the command, one per folder."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from sprint_agents.engines.sglang import detached

from .engines import STATE, shipped

_BUILT = Path(".venv-sglang/bin/python")

StateOption = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Where the server is recorded; each folder can have one.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]

app = typer.Typer(help="Start, show and stop an SGLang server of your own.", no_args_is_help=True)


@app.command()
def up(
    model: Annotated[
        Path | None, typer.Option(help="A checkpoint directory (default: the model that is shipped).", metavar="DIR")
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(
            help=f"The interpreter of an environment with SGLang (default: {_BUILT} where `make sglang` built it, "
            "else this one's own)."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 0,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGUMENTS", help="What sglang.launch_server is told beside this.")
    ] = None,
    state: StateOption = STATE,
    as_json: JsonFlag = False,
) -> None:
    """Start a server and wait until it is ready; `sprint run --engine sglang` finds it."""
    if python is None and _BUILT.exists():
        python = _BUILT
    state.mkdir(parents=True, exist_ok=True)
    server = asyncio.run(
        detached.up(state, model or shipped(), python=python, port=port, arguments=tuple(arguments or ()))
    )
    _say(server, "up", as_json=as_json)


@app.command()
def status(state: StateOption = STATE, as_json: JsonFlag = False) -> None:
    """Show the server that runs; exits 1 if none does."""
    server = detached.status(state)
    _say(server, "up", as_json=as_json)
    if server is None:
        raise typer.Exit(1)


@app.command()
def down(state: StateOption = STATE, as_json: JsonFlag = False) -> None:
    """Stop the server, all its processes; nothing happens if none runs."""
    _say(asyncio.run(detached.down(state)), "stopped", as_json=as_json)


def _say(server: detached.DetachedServer | None, what: str, *, as_json: bool) -> None:
    if as_json:
        line = json.dumps(None) if server is None else server.model_dump_json()
    elif server is None:
        line = "no server is up"
    else:
        line = f"{what}: {server.url} serves {server.checkpoint}, process {server.process.pid}, log {server.log}"
    typer.echo(line)
