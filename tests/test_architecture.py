"""ARCHITECTURE.md names functions that exist, and no modules of the library import each other in a cycle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
SECTION = re.compile(r"^## A walk through one run\n(.*?)^## ", re.DOTALL | re.MULTILINE)
STEP = re.compile(r"^\d+\. ", re.MULTILINE)
REFERENCE = re.compile(r"`([\w/]+\.py):([\w.]+)`")

# Annotations of errors: what an error holds is defined later than the base of all errors.
ALLOWED = {("sprint_agents.errors", "sprint_agents.run"), ("sprint_agents.errors", "sprint_agents.plan")}


def walk() -> list[str]:
    """The steps of the section, one text each."""
    section = SECTION.search((ROOT / "ARCHITECTURE.md").read_text())
    assert section is not None
    return STEP.split(section[1])[1:]


REFERENCES = [reference for step in walk() for reference in REFERENCE.findall(step)]


def test_the_walk_has_at_most_ten_steps_and_each_names_its_function():
    steps = walk()
    assert 5 <= len(steps) <= 10
    assert all(REFERENCE.match(step) for step in steps)
    assert REFERENCES[0] == ("sprint_agents/sprint.py", "Sprint.run")


@pytest.mark.parametrize(("path", "name"), REFERENCES)
def test_the_walk_names_functions_that_exist(path: str, name: str):
    scope: list[ast.stmt] = ast.parse((ROOT / path).read_text()).body
    for part in name.split("."):
        found = [
            node
            for node in scope
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == part
        ]
        assert found, f"{path} has no {name}"
        scope = found[-1].body


def test_no_modules_import_each_other_in_a_cycle():
    """Imports for annotations and inside functions count too."""
    graph = grimp.build_graph("sprint_agents", cache_dir=None)
    imports = {
        module: {other for other in graph.find_modules_directly_imported_by(module) if (module, other) not in ALLOWED}
        for module in graph.modules
    }
    assert len(imports) > 100
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the cycle
