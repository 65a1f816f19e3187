"""The wheel in a new environment, without extras."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-core" / "bin"
EXTRAS = [
    ("from sprint_agents.engines import LocalEngine; LocalEngine('x')", "sprint-agents[local]"),
    (
        "from sprint_agents.engines import SGLangEngine; SGLangEngine('http://x', tokenizer='.')",
        "sprint-agents[sglang]",
    ),
    ("from sprint_integrations.mcp import tools_of", "sprint-agents[mcp]"),
    ("from sprint_integrations.pydantic_ai import PydanticAIEngine", "sprint-agents[pydantic-ai]"),
]

pytestmark = pytest.mark.versions


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment, away from the repository."""
    program, *arguments = command
    return subprocess.run([BIN / program, *arguments], cwd=folder, capture_output=True, text=True)


def test_only_the_base_dependencies_are_installed(tmp_path: Path) -> None:
    done = run(tmp_path, "python", "-m", "pip", "list", "--format", "json")
    installed = {package["name"] for package in json.loads(done.stdout)}
    assert {"sprint-agents", "httpx2", "pydantic"} <= installed
    assert not {"jinja2", "numpy", "rich", "tokenizers", "torch", "transformers", "typer"} & installed


def test_runs_the_readmes_policy(tmp_path: Path) -> None:
    blocks = (ROOT / "README.md").read_text("utf-8").split("```python\n")[1:]
    (program,) = (block for block in (b.partition("```")[0] for b in blocks) if "FakeEngine" in block)
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    done = run(tmp_path, "python", "-W", "error", "program.py")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["sprint", "sprint-finetune"])
def test_commands_name_the_extra_that_has_them(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, name, "--help")
    assert done.returncode == 2
    extra = "cli" if name == "sprint" else "finetune"
    assert f"sprint-agents[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("code", "extra"), EXTRAS)
def test_what_needs_an_extra_names_it(tmp_path: Path, code: str, extra: str) -> None:
    done = run(tmp_path, "python", "-c", code)
    assert "MissingExtra" in done.stderr
    assert extra in done.stderr
