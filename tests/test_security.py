"""The promises of ``docs/security.md``: the tests that it names exist, and no code evaluates text."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sprint_agents", "integrations/sprint_integrations", "finetune/sprint_finetune")
NAMED = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/security.md").read_text())
EVALUATES = {"eval", "exec", "compile", "__import__"}
UNPICKLES = {"pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle"}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_tests_that_are_named_exist(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    found = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not name or name in found


def test_every_promise_names_tests() -> None:
    table = (ROOT / "docs/security.md").read_text().split("| promise | tests |")[1].split("\n\n")[0]
    promises = [line for line in table.splitlines() if line.startswith("| **")]
    assert len(promises) > 10
    assert [line for line in promises if "`tests/" not in line] == []


def calls(path: Path) -> Iterator[str]:
    """Yield what a module does that could run text as code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EVALUATES:
            yield node.func.id
        if isinstance(node, ast.Import):
            yield from UNPICKLES & {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module in UNPICKLES:
            yield node.module
        if isinstance(node, ast.keyword) and node.arg in ("shell", "trust_remote_code"):
            yield from [] if isinstance(node.value, ast.Constant) and node.value.value is False else [f"{node.arg}="]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_code_evaluates_or_unpickles_text(package: str) -> None:
    found = {str(path.relative_to(ROOT)): sorted(calls(path)) for path in (ROOT / package).rglob("*.py")}
    assert {path: what for path, what in found.items() if what} == {}


def test_what_evaluates_text_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("import pickle\neval('1')\nrun('ls', shell=True)\nload(trust_remote_code=False)\n")
    assert sorted(calls(module)) == ["eval", "pickle", "shell="]
