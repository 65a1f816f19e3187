"""`import sprint_agents` is light: it loads nothing heavy, and needs nothing that only an extra installs."""

import json
import subprocess
import sys

import pytest

HEAVY = ("httpx2", "numpy", "tokenizers", "torch", "transformers", "typer")
EXTRAS = (*HEAVY[1:], "rich")  # rich is not among the heavy: structlog loads it wherever it is installed


def fresh_interpreter(code: str) -> str:
    """What the code prints in an interpreter of its own."""
    return subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    """The modules that are there after the import."""
    return frozenset(
        json.loads(fresh_interpreter("import json, sys, sprint_agents; print(json.dumps([*sys.modules]))"))
    )


@pytest.mark.parametrize("package", HEAVY)
def test_import_loads_nothing_heavy(loaded: frozenset[str], package: str) -> None:
    assert "sprint_agents" in loaded
    assert package not in loaded


def test_import_needs_no_extra() -> None:
    """An entry of None in sys.modules makes the import fail as if the package were not installed."""
    code = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS})); import sprint_agents; print(sprint_agents.Sprint)"
    assert "sprint_agents.sprint.Sprint" in fresh_interpreter(code)
