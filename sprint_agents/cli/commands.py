"""Error reports and ``--version``, shared by all command lines of the project."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sprint_agents import __version__
from sprint_agents.errors import ConfigurationError, SprintError


def error_line(error: SprintError) -> str:
    r"""Write an error as the one line that every command reports it with.

    Control characters are left out: a server or a task may have put a terminal's escape sequences into the message.

    >>> error_line(SprintError("bad \x1b]52;c;aGk=\x07 request"))
    'error: SprintError: bad ]52;c;aGk= request'
    """
    return f"error: {type(error).__name__}: {printable(' '.join(str(error).split()))}"


def printable(text: str) -> str:
    """Return ``text`` without control characters, which a terminal may obey; so it is one line."""
    return "".join(sign for sign in text if sign.isprintable())


class Commands(TyperGroup):
    """A group of commands that reports errors as one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _reporting():
            return super().invoke(ctx)


@contextmanager
def _reporting() -> Generator[None]:
    """Turn an error of the library into one line and an exit code; other exceptions keep their traceback."""
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
"""Prints the version and exits."""
