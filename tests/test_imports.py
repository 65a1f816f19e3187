"""`import sprint_agents` is light: it loads no heavy package, and needs no package that only an extra installs."""

import json
import subprocess
import sys

import pytest

EXTRAS = ("numpy", "rich", "tokenizers", "torch", "transformers", "typer")
HEAVY = (*EXTRAS, "httpx2", "structlog", "tenacity")  # structlog loads rich wherever that is installed


def fresh_interpreter(code: str) -> str:
    """Run the code in a new interpreter and return its output."""
    return subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    """The modules that the import loads."""
    return frozenset(
        json.loads(fresh_interpreter("import json, sys, sprint_agents; print(json.dumps([*sys.modules]))"))
    )


@pytest.mark.parametrize("package", HEAVY)
def test_import_loads_no_heavy_package(loaded: frozenset[str], package: str) -> None:
    assert "sprint_agents" in loaded
    assert package not in loaded


def test_import_needs_no_extra() -> None:
    """An entry of None in sys.modules makes the import fail as if the package were not installed."""
    code = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS})); import sprint_agents; print(sprint_agents.Sprint)"
    assert "sprint_agents.sprint.Sprint" in fresh_interpreter(code)
