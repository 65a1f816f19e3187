"""Execute what the documentation shows: Python blocks, shell commands, and the packages' doctests.

Every fenced block of README.md, ARCHITECTURE.md and docs/ is a separate example. It runs in an empty folder with a link
to the repository's `examples/`. Words after the language of the fence change that:

- `continue`  continue the page's previous block of that language
- `served`    the block calls a model at `SERVED`; a server on loopback plays it
- `compile`   the block needs something that a test does not have (a GPU, hours): Python is only compiled, commands do
              not run, but the scripts they name must exist
- `recipe`    the block needs other people's packages: here it is only compiled, and `make test-recipes` runs it

Python may `await` at the top level. In a shell block, lines after a `$ ` prompt are commands; those in `RUN` are run.

This is not sybil or pytest-examples, because neither runs shell sessions or top-level `await`. Here markdown-it finds
the fences, as they do.
"""

import ast
import asyncio
import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog
from markdown_it import MarkdownIt

from sprint_agents import SprintError, errors
from tests.engines.openai.scripted import Exchange, says, served

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = [ROOT, ROOT / "integrations", ROOT / "finetune"]
PARTS = [ROOT / "sprint_agents"]  # a note for its readers leaves the package out
PYTHON, SHELL = {"python"}, {"console", "bash"}
RUN = ("sprint ", "sprint-finetune ", "python ", "echo ", "printf ")
SERVED = "http://127.0.0.1:11434/v1"
REPLIES = {  # by a part of the request's last message
    "planner, stage 1": '{"subtasks": [{"prompt": "the largest city of Norway"}, {"prompt": "and of Denmark"}]}',
    "planner, stage 2": '{"answer": "Oslo"}',
    "executor 1.1": '{"result": {"name": "Oslo", "people": 720000}}',
    "executor 1.2": '{"result": {"name": "Copenhagen", "people": 670000}}',
}


@dataclass(frozen=True, slots=True)
class Example:
    """One block, or several joined by `continue`; blank lines preserve the page's line numbers."""

    page: str
    line: int
    language: str
    words: frozenset[str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def find_examples(page: str, markdown: str) -> list[Example]:
    examples: list[Example] = []
    for token in MarkdownIt("commonmark").parse(markdown):
        language, *words = token.info.split() or [""]
        if token.type != "fence" or token.map is None or language not in PYTHON | SHELL:
            continue
        line, text = token.map[0] + 1, token.content
        if "continue" in words:
            previous = next(e for e in reversed(examples) if e.language == language)
            examples.remove(previous)
            line, text = previous.line, previous.text + "\n" * (line - previous.text.count("\n")) + text
        else:
            text = "\n" * line + text
        examples.append(Example(page, line, language, frozenset(words), text))
    return examples


async def play(exchange: Exchange) -> None:
    """Answer as the model of a served block would."""
    asked = str(exchange.body["messages"][-1]["content"])
    (reply,) = (reply for key, reply in REPLIES.items() if key in asked)
    await says(reply)(exchange)


def run_python(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    if "served" in example.words:
        assert SERVED in example.text
        with served(play) as server:
            run_script(replace(example, text=example.text.replace(SERVED, server.base)), monkeypatch)
    else:
        run_script(example, monkeypatch)


def run_script(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the block as a script: pydantic and pickle find its names in `__main__`."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(example.text, example.page, "exec", flags=flags, dont_inherit=True)
    if example.words & {"compile", "recipe"}:
        return
    script = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    try:
        result = eval(code, script.__dict__)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    finally:
        structlog.reset_defaults()  # one page configures it


def commands(example: Example) -> list[str]:
    """The commands of a session, each joined with its continuation lines."""
    session = example.text.replace("\\\n", " ")
    lines = [line.removeprefix("$ ") for line in session.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line.startswith(RUN)]


def run_shell(example: Example, folder: Path) -> None:
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    for command in commands(example):
        if "compile" in example.words:
            missing = [
                name for name in re.findall(r"[\w./-]+\.(?:py|toml|ya?ml)\b", command) if not (ROOT / name).exists()
            ]
            assert not missing, f"{example}: {command!r} names {missing}, which the repository does not have"
            continue
        shell = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(shell, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, f"{example}: {command!r} exited {done.returncode}\n{done.stdout}{done.stderr}"


def run(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(folder)
    if example.language in PYTHON:
        run_python(example, monkeypatch)
    else:
        run_shell(example, folder)


def documented() -> list[Example]:
    pages = [page for page in PAGES if page.exists()]
    return [e for page in pages for e in find_examples(str(page.relative_to(ROOT)), page.read_text("utf-8"))]


def with_doctests() -> list[str]:
    """Names of the modules with doctests, found by path, so that collection imports nothing."""
    shown = [
        path.relative_to(source).with_suffix("")
        for source in SOURCES
        for path in sorted(source.glob("sprint_*/**/*.py"))
        if ">>> " in path.read_text("utf-8")
    ]
    return [".".join(path.parts).removesuffix(".__init__") for path in shown]


@pytest.mark.parametrize("example", documented(), ids=str)
def test_documentation(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(example, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", with_doctests())
def test_doctests(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("sprint_"):
            raise
        pytest.skip(f"needs {missing.name}")
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted, "shows >>> where doctest does not find it"
    assert not outcome.failed, "the output above says which"


# The site. `make docs` builds it and checks anchors; these checks need no builder.


def tool(name: str) -> ModuleType:
    """Import a script of docs/tools, which sees the scripts beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs" / "tools")
        return importlib.import_module(name)


def leaves(navigation: list[Any]) -> list[str]:
    """The pages of a navigation, in order, without its sections."""
    entries = [entry for item in navigation for entry in item.values()]
    return [page for entry in entries for page in ([entry] if isinstance(entry, str) else leaves(entry))]


def test_every_page_is_in_the_navigation_once() -> None:
    gather = tool("gather")
    site = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
    assert sorted(leaves(site["nav"])) == sorted(gather.site_path(source) for source, _ in gather.pages())


def test_links_between_files_lead_somewhere() -> None:
    gather = tool("gather")
    turned = {source: gather.turned(text, source) for source, text in gather.pages()}
    assert "(recipes/nano.md)" in turned["docs/training.md"]
    assert "(countdown.md)" in turned["examples/README.md"]
    assert doctest.testmod(gather).attempted


@pytest.mark.parametrize("link", ["gone.md", "gone.md#anchor", "../examples", "../Makefile"])
def test_broken_link_is_an_error(link: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(link.partition("#")[0])):
        tool("gather").turned(f"See [this]({link}).", "docs/page.md")


def test_code_is_left_alone_by_the_site() -> None:
    page = "[top](#top), [far](https://example.org)\n\n```python continue\nlinks = [a](gone.md)\n```\n"
    assert tool("gather").turned(page, "docs/page.md") == page.replace("python continue", "python")


def test_escaped_pipe_is_a_pipe_on_the_site() -> None:
    assert tool("gather").turned("| `a \\| <b>` |", "docs/page.md") == "| <code>a &#124; &lt;b&gt;</code> |\n"


def test_picture_is_that_of_its_recording() -> None:
    draw = tool("draw_run")
    recording = draw.Recording.model_validate_json((ROOT / "docs" / "run.json").read_text("utf-8"))
    assert str(draw.Picture(recording)) == (ROOT / "docs" / "run.svg").read_text("utf-8")
    usage, stages = recording.usage, recording.stages
    strict, paper = [stage.tokens for stage in stages], [stage.paper for stage in stages]
    assert sum(strict) == usage.sequential_tokens_strict
    assert sum(paper) == usage.sequential_tokens
    assert usage.total_tokens == sum(
        stage.plan_tokens + sum(branch.tokens for branch in stage.branches) for stage in stages
    )
    concepts = (ROOT / "docs" / "concepts.md").read_text("utf-8")
    assert f"{' + '.join(map(str, strict))} = {usage.sequential_tokens_strict} |" in concepts
    assert f"{' + '.join(map(str, paper))} = {usage.sequential_tokens} |" in concepts
    home = " ".join((ROOT / "docs" / "index.md").read_text("utf-8").split())
    assert f"generated {usage.total_tokens} tokens" in home
    assert f"no more than {usage.sequential_tokens_strict} of them" in home


def test_diagrams_are_those_that_the_script_draws() -> None:
    draw = tool("draw_diagrams")
    assert draw.layers() == (ROOT / "docs" / "layers.svg").read_text("utf-8")
    assert draw.who_sees_what() == (ROOT / "docs" / "contexts.svg").read_text("utf-8")


def test_troubleshooting_names_every_error() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    concrete = {
        name for name, error in vars(errors).items() if inspect.isclass(error) and issubclass(error, SprintError)
    }
    assert {name for name in concrete if f"`{name}" not in page} == set()
    assert set(re.findall(r"`([A-Z]\w+(?:Error|Exceeded))\b", page)) <= concrete


def test_logging_names_every_message_of_the_library() -> None:
    page = (ROOT / "docs" / "logging.md").read_text("utf-8")
    sources = "".join(path.read_text("utf-8") for source in SOURCES for path in source.glob("sprint_*/**/*.py"))
    logged = set(re.findall(r"\blog\(\s*\"(?:debug|info|warning)\", \"([^\"]+)\"", sources)) | {"<event>: cause"}
    assert logged == set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_a_note_names_exist(page: str) -> None:
    named = re.findall(r"`([\w./-]*\w/[\w.-]*(?:\.(?:py|json|toml)|/))`", (ROOT / page).read_text("utf-8"))
    assert named
    assert [path for path in named if not any((source / path).exists() for source in [*SOURCES, *PARTS])] == []


# The checks above must be able to fail.


def make_folder(parent: Path, number: int) -> Path:
    folder = parent / str(number)
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("markdown", "error"),
    [
        ("```python\nraise LookupError\n```", LookupError),
        ("- item\n\n  ```python\n  assert 1 == 2\n  ```", AssertionError),
        ("```python\nimport asyncio\nawait asyncio.sleep(0)\nraise LookupError\n```", LookupError),
        ("```python\na = 1\n```\n\n```python\nprint(a)\n```", NameError),
        ("```python\na = 1\n```\n\n```python continue\nif a: raise LookupError\n```", LookupError),
        ("```python compile\nraise =\n```", SyntaxError),
        ("```console\n$ python -c 'raise SystemExit(3)'\nanything\n```", AssertionError),
        ("```bash\n$ python \\\n    -c 'raise SystemExit(3)'\n```", AssertionError),
        ("```console\n$ python -c 'raise SystemExit(3)' | echo\n```", AssertionError),
        ("```console compile\n$ python benchmarks/no_such_script.py\n```", AssertionError),
    ],
)
def test_broken_example_fails(
    markdown: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *working, broken = find_examples("page.md", markdown)
    for number, example in enumerate(working):
        run(example, make_folder(tmp_path, number), monkeypatch)
    with pytest.raises(error):
        run(broken, make_folder(tmp_path, len(working)), monkeypatch)


@pytest.mark.parametrize(
    "markdown",
    [
        "```python compile\nraise LookupError\n```",
        "```console\n$ make no-such-target\n$ pip install no-such-package\n```",
        "```console compile\n$ python -c 'raise SystemExit(3)'\n```",
        "```console\n$ echo 1 > a\n```\n\ntext\n\n```console continue\n$ python -c 'open(\"a\")'\n```",
        "```json\nnot python\n```",
    ],
)
def test_fence_words_are_obeyed(markdown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for example in find_examples("page.md", markdown):
        run(example, tmp_path, monkeypatch)


def test_failing_line_is_named_as_the_page_counts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    markdown = "# Title\n\n```python\na = 1\n```\n\nText.\n\n```python continue\nb = 2\nraise LookupError\n```\n"
    (example,) = find_examples("page.md", markdown)
    with pytest.raises(LookupError) as caught:
        run(example, tmp_path, monkeypatch)
    assert caught.traceback[-1].lineno + 1 == markdown.splitlines().index("raise LookupError") + 1
