"""Gather the pages of the site: `python docs/tools/gather.py FOLDER`, as `make docs` does before it builds.

Pages of `docs/` read well in a checkout, where they link to recipes, examples and the notes at the root. This script
gives each of those a place on the site, turns the links to it, and makes a page of each example. A link to a missing
file is an error here; a link to a missing anchor is an error in the builder.
"""

import ast
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

from reference import types_page

ROOT = Path(__file__).parents[2]

NOTES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
PIPED = re.compile(r"`([^`]*\\\|[^`]*)`")  # in a table, where the builder would show the backslash too
FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,})(?P<language>\w*).*$")


def site_path(path: str) -> str:
    """Return the place on the site of a file of the repository, or "" if it has none.

    >>> site_path("docs/policies.md"), site_path("finetune/recipes/nano.md"), site_path("examples/countdown.py")
    ('policies.md', 'recipes/nano.md', 'examples/countdown.md')
    """
    parent, name = posixpath.split(path)
    match parent, posixpath.splitext(name):
        case _ if path.startswith("docs/") and not path.startswith("docs/tools/"):
            return path.removeprefix("docs/")
        case "finetune/recipes", _:
            return f"recipes/{name}"
        case "examples", ("README", ".md"):
            return "examples/index.md"
        case "examples", (stem, ".py"):
            return f"examples/{stem}.md"
        case "", (stem, ".md") if path in NOTES:
            return f"{stem.lower().replace('readme', 'measured')}.md"  # a readme would be the site's index
        case _:
            return ""


def turned(text: str, source: str) -> str:
    """Return a page's text with links between places on the site, and fences that only name a language.

    Raises:
        SystemExit: a link leads to a file that does not exist, or that has no place on the site.
    """
    lines: list[str] = []
    closing = ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if closing:
            closing = "" if line.strip() == closing else closing
        elif fence:
            closing = fence["marks"]
            line = fence["indent"] + fence["marks"] + fence["language"]
        else:
            line = LINK.sub(lambda found, n=number: _link(found[1], source, n), line)
            line = PIPED.sub(lambda found: "<code>" + escape(found[1]).replace("\\|", "&#124;") + "</code>", line)
        lines.append(line)
    return "\n".join(lines) + "\n"


def _link(target: str, source: str, number: int) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if not (ROOT / path).is_file():
        sys.exit(f"{source}:{number}: {target} does not exist")
    if not (place := site_path(path)):
        sys.exit(f"{source}:{number}: {target} has no place on the site: give it one in site_path, or remove the link")
    return posixpath.relpath(place, posixpath.dirname(site_path(source)) or ".")


def page_of_example(path: Path) -> str:
    """Return a page that shows a program: the first line of its docstring, then its source."""
    source = path.read_text("utf-8")
    summary, _, _ = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
    return f"# {path.name}\n\n{summary}\n\n```python\n{source}```\n"


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path in the repository and the text of every page."""
    for path in sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "finetune/recipes").glob("*.md")]):
        yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
    for name in (*NOTES, "examples/README.md"):
        yield name, (ROOT / name).read_text("utf-8")
    yield "docs/reference/types.md", types_page()
    for path in sorted((ROOT / "examples").glob("*.py")):
        yield f"examples/{path.name}", page_of_example(path)


def gather(folder: Path) -> None:
    """Write all pages, and the files that they show or link to, into an empty ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    texts = {site_path(source): turned(text, source) for source, text in pages()}
    files = [
        path
        for pattern in ("docs/**/*.svg", "docs/**/*.css", "finetune/recipes/*.toml", "finetune/recipes/*.json")
        for path in ROOT.glob(pattern)
    ]
    for place, text in texts.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, "utf-8")
    for path in files:
        place = folder / site_path(path.relative_to(ROOT).as_posix())
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


if __name__ == "__main__":
    gather(Path(sys.argv[1]))
