"""The reference has an entry, with a docstring, for every public name.

Public is what a package lists in ``__all__``, and what the documentation and the examples import. The test reads the
sources as the site's builder does, so it needs no torch.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import griffe
import pytest

from tests.test_documentation import tool

ROOT = Path(__file__).parents[1]
PACKAGES = ("sprint_agents", "sprint_integrations", "sprint_finetune")
IMPORT = re.compile(r"^ *from (sprint_\w+(?:\.\w+)*) import (\((?:[^)]*)\)|[^(\n]*)", re.MULTILINE)

reference = tool("reference")
sources, entries = reference.sources, reference.entries


def modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for inner in module.modules.values():
        if isinstance(inner, griffe.Module):
            yield from modules(inner)


def imported(text: str) -> set[str]:
    """The names of our packages that a page or a program imports."""
    return {
        f"{module}.{part.split()[0]}"
        for module, names in IMPORT.findall(text)
        for part in re.findall(r"\w[^,()]*", names)
    }


def readers() -> list[Path]:
    folders = [ROOT / "docs", ROOT / "examples", ROOT / "finetune" / "recipes"]
    found = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".md", ".py")]
    return sorted([ROOT / "README.md", *(path for path in found if path.parent != ROOT / "docs" / "tools")])


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_has_an_entry(package: str) -> None:
    exported = {
        f"{module.path}.{name}"
        for module in modules(sources()[package])
        if module.is_init_module and module.exports is not None
        for name in module.exports
    }
    where = {member.canonical_path for member in entries().values()}
    missing = {name for name in exported - entries().keys() if sources()[name].canonical_path not in where}
    assert not missing, "give each a place on a page of docs/reference, or take it out of __all__"


def test_every_name_that_the_documentation_imports_has_an_entry() -> None:
    read = {path.relative_to(ROOT).as_posix(): imported(path.read_text("utf-8")) for path in readers()}
    missing = {path: names - entries().keys() for path, names in read.items() if names - entries().keys()}
    assert not missing, "import each from a package of docs/reference, or give it an entry there"


def test_every_entry_has_a_docstring() -> None:
    shown = {**entries(), **reference.types()}
    undocumented = [path for path, member in shown.items() if not member.has_docstring and "__" not in path]
    undocumented += [
        f"{path}.{name}"
        for path, member in shown.items()
        if member.is_class
        for name, method in member.members.items()
        if method.is_function and method.is_public and not name.startswith("__") and not method.has_docstring
    ]
    assert not undocumented


def test_types_of_signatures_have_an_entry() -> None:
    names = {path.rpartition(".")[2] for path in reference.types()}
    assert {"Failure", "StageUsage", "Fork"} <= names
    assert not {"Plan", "AnswerT"} & names  # on a page already; a type variable


def test_imports_are_read_on_one_line_and_on_several() -> None:
    text = "from sprint_agents import Plan, Run as R\n    from sprint_agents.events import (\n        Event,\n    )\n"
    assert imported(text) == {"sprint_agents.Plan", "sprint_agents.Run", "sprint_agents.events.Event"}


def test_policy_is_its_function_and_not_the_module_of_that_name() -> None:
    assert entries()["sprint_agents.policies.dag"].is_function
