"""``sprint view --serve``: the page of runs that are still growing, for a browser on this machine.

The page asks once a second, and reads files again only when one of them has changed. A file that cannot be read at that
moment, such as one whose last line is being written, leaves the page as it is.
"""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

import typer

from sprint_agents.errors import MissingExtra, SprintError
from sprint_agents.viewer import render_page

from .serve import listen
from .view import read_runs

try:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route
except ModuleNotFoundError as error:
    raise MissingExtra("serve", "starlette") from error

_RUNS = "runs.json"


async def serve_view(files: Sequence[Path], *, port: int, show: bool) -> None:
    """Serve a page of the runs in ``files``, which may still grow, on this machine until the process is interrupted."""

    def announce(address: str) -> None:
        typer.echo(f"following {', '.join(file.name for file in files)} at {address}")
        if show:
            webbrowser.open(address)

    await listen(live_page(files), host="127.0.0.1", port=port, announce=announce)


def live_page(files: Sequence[Path]) -> Starlette:
    """Return an application that shows the runs in ``files``; one that does not exist yet has none.

    Its functions are not async, so that starlette calls them in threads: files may be large.
    """

    def page(_: Request) -> Response:
        title = ", ".join(file.name for file in files)
        return HTMLResponse(render_page((), title=title, live=_RUNS))

    def runs(request: Request) -> Response:
        tag = _tag(files)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        try:
            found = [run for file in files if file.exists() for run in read_runs(file)]
        except SprintError as error:
            return PlainTextResponse(str(error), status_code=503)
        return Response("[" + ",\n".join(found) + "]", media_type="application/json", headers={"etag": tag})

    return Starlette(
        routes=[Route("/", page), Route(f"/{_RUNS}", runs)],
        # Without this, a web page with another name for this machine's address could read the runs.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


def _tag(files: Sequence[Path]) -> str:
    """Name the present state of files."""
    states = [(file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else (0, 0) for file in files]
    return '"' + "-".join(f"{size:x}.{changed:x}" for size, changed in states) + '"'
