"""Execute docs/recipes.md with the real packages."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_documentation import ROOT, Example, find_examples, run


def recipes() -> list[Example]:
    page = ROOT / "docs" / "recipes.md"
    return [example for example in find_examples("docs/recipes.md", page.read_text("utf-8")) if example.text]


@pytest.mark.parametrize("example", recipes(), ids=str)
def test_recipe(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(replace(example, words=example.words - {"recipe"}), tmp_path, monkeypatch)
