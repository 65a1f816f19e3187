"""Execute docs/recipes.md with the real packages."""

import subprocess
import sys
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


def test_table_of_prefix_sharing() -> None:
    """The benchmark runs, and only executors that fork find the document in the cache at once."""
    command = [sys.executable, str(ROOT / "benchmarks" / "sharing.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines()[4:]]
    first = {name.strip(): int(executor.replace(",", "")) for name, _, _, _, _, executor, _, _ in rows}
    assert len(first) == 5
    assert max(first["sprint-agents"], first['deepagents, `mode="fork"`']) < 500
    assert (
        min(tokens for name, tokens in first.items() if name not in ("sprint-agents", 'deepagents, `mode="fork"`'))
        > 3000
    )
