"""An ``Answer`` closes its policy, so every ``yield Answer(…)`` ends the function or is followed by ``return``."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("sprint_agents", "integrations", "finetune", "examples", "benchmarks", "docs")
FENCE = re.compile(r"^```python[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def sources() -> Iterator[tuple[str, str]]:
    """Python code that yields answers, of modules and of documentation, with the path of its file."""
    files = [ROOT / "README.md", *(file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.*")))]
    for file in files:
        if file.suffix in {".py", ".md"} and "yield Answer" in (text := file.read_text("utf-8")):
            blocks = [text] if file.suffix == ".py" else [block for block in FENCE.findall(text) if "yield" in block]
            yield from ((f"{file.relative_to(ROOT)}:{number}", block) for number, block in enumerate(blocks))


def continued(body: list[ast.stmt], *, last: bool = True) -> Iterator[int]:
    """The lines of a function's answers after which other code may run."""
    for statement, after in zip(body, [*body[1:], None], strict=False):
        ends = last and after is None
        match statement:
            case ast.Expr(ast.Yield(ast.Call(ast.Name("Answer")))):
                if not (ends or isinstance(after, ast.Return)):
                    yield statement.lineno
            case ast.If() | ast.With() | ast.AsyncWith() | ast.For() | ast.AsyncFor() | ast.While() | ast.Try():
                ends = ends and isinstance(statement, ast.If | ast.With | ast.AsyncWith)
                yield from continued(statement.body, last=ends)
                yield from continued(getattr(statement, "orelse", []), last=ends)
            case _:
                pass


@pytest.mark.parametrize(("place", "code"), [pytest.param(*source, id=source[0]) for source in sources()])
def test_return_follows_an_answer(place: str, code: str) -> None:
    functions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.AsyncFunctionDef)]
    assert {function.name: [*continued(function.body)] for function in functions if [*continued(function.body)]} == {}


def test_an_answer_that_is_followed_by_code_is_found() -> None:
    (function,) = ast.parse("async def policy(planning):\n    yield Answer(value=1)\n    yield Answer(value=2)").body
    assert isinstance(function, ast.AsyncFunctionDef)
    assert [*continued(function.body)] == [2]
