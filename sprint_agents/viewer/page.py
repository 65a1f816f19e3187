"""Runs as a page of HTML that needs nothing else: no server, no network, no build.

Invariants:

- The page runs its own script alone. Its policy allows that script and that style by their digests, and no request. A
  live page may ask the server that it came from, and no other.
- What a run holds is data: JSON in which no `<` occurs, which the script writes into the page as text.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

SCRIPTS = ("layout.mjs", "elements.mjs", "chart.mjs", "page.mjs")
"""The script of the page, in parts, each after those that it imports."""

_LIVE = "live.mjs"

_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)


def render_page(runs: Iterable[str], *, title: str = "sprint-agents", live: str | None = None) -> str:
    """Return a page that shows ``runs``, each as the JSON of a ``Run``.

    A page that is ``live`` gets its runs from that address of its own server, a JSON array, again and again.

    >>> page = render_page(['{"task": "</script><script>alert(1)</script>"}'])
    >>> "alert(1)" in page, "</script><script>alert(1)" in page
    (True, False)
    """
    style, script, template = _files(live=live is not None)
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    if live is not None:
        policy += "; connect-src 'self'"
    data = "[" + ",\n".join(runs) + "]"
    return Template(template).substitute(
        policy=policy,
        live="" if live is None else f' data-live="{escape(live)}"',
        title=escape(title),
        style=style,
        script=script,
        runs=data.replace("<", "\\u003c"),
    )


def render_frame(run: str, *, height: int = 480) -> str:
    """Return a frame with the page of one run, for notebooks; it has its own origin, so it reads nothing of theirs."""
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{escape(render_page([run]))}" '
        f'style="width: 100%; height: {height}px; border: 1px solid #8888; border-radius: 6px"></iframe>'
    )


@cache
def _files(*, live: bool) -> tuple[str, str, str]:
    folder = files(__name__.rpartition(".")[0])
    names = ("viewer.css", "page.html", *SCRIPTS, *([_LIVE] if live else []))
    style, page, *scripts = [folder.joinpath(name).read_text("utf-8") for name in names]
    # A page without other files has one module, so what the scripts import from each other is simply there.
    return style, "\n".join(_IMPORT.sub("", script) for script in scripts), page


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
