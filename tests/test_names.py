"""One word, one meaning: a public class name is defined once in the three packages."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = [
    ROOT / "sprint_agents",
    ROOT / "integrations" / "sprint_integrations",
    ROOT / "finetune" / "sprint_finetune",
]


def defined(source: str) -> list[str]:
    """The public classes at the top level of a module."""
    return [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]


def test_public_class_name_is_defined_once() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in (path for package in PACKAGES for path in sorted(package.rglob("*.py"))):
        for name in defined(path.read_text("utf-8")):
            places[name].append(path.relative_to(ROOT).as_posix())
    assert len(places) > 200
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_only_public_classes_at_the_top_level_count() -> None:
    source = "class Plan:\n    class Inner: ...\n\nclass _Draft: ...\n\ndef make():\n    class Local: ...\n"
    assert defined(source) == ["Plan"]
