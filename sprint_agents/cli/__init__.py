"""The command line, ``sprint``: the only place that prints, reads the environment and configures logging.

Exit codes: 0 the command ran; 1 a run failed; 2 the call was wrong; 130 interrupted. An error is one line on stderr,
``error: <Type>: <what happened, and what to do>``.
"""

import sys

from sprint_agents.errors import MissingExtra


def main() -> None:
    """Run the ``sprint`` command."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("typer", "rich"):
            raise
        print(f"error: MissingExtra: {MissingExtra('cli', missing)}", file=sys.stderr)
        sys.exit(2)
    app()
