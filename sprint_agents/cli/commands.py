"""What every command line of the project has in common: how errors are reported, and ``--version``."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sprint_agents import __version__
from sprint_agents.errors import ConfigurationError, SprintError

from .words import error_line


class Commands(TyperGroup):
    """Reports the errors of all commands in one way."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _reporting():
            return super().invoke(ctx)


@contextmanager
def _reporting() -> Generator[None]:
    """Turn an error of the library into one line and an exit code; anything else is a bug and keeps its traceback."""
    try:
        yield
    except SprintError as error:
        typer.echo(error_line(error), err=True)
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sprint-agents {__version__}")
        raise typer.Exit


VersionFlag = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit.")
]
"""Shows the version and ends the program."""
