"""The command line, ``sprint-finetune``: write, curate, train on and evaluate traces, and share models.

It has the exit codes and error format of ``sprint`` (``sprint_agents.cli``).
"""

import sys

from sprint_agents.errors import MissingExtra


def main() -> None:
    """Run the ``sprint-finetune`` command."""
    try:
        from .commands import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("typer", "rich"):
            raise
        print(f"error: MissingExtra: {MissingExtra('finetune', missing)}", file=sys.stderr)
        sys.exit(2)
    app()
