"""The wheel holds the three packages, all of them, and nothing else."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

import sprint_agents

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "sprint_agents": ROOT / "sprint_agents",
    "sprint_integrations": ROOT / "integrations" / "sprint_integrations",
    "sprint_finetune": ROOT / "finetune" / "sprint_finetune",
}
LARGEST_WHEEL = 25 * 2**20  # bytes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel as any installer would build it, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected


def test_wheel_installs_three_packages(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert top == {*PACKAGES, f"sprint_agents-{sprint_agents.__version__}.dist-info"}


@pytest.mark.parametrize(
    "name",
    [
        *(f"{package}/py.typed" for package in PACKAGES),
        "sprint_agents/dialects/tags/tags_v1.json",
        *(
            f"sprint_agents/nano/sprint-nano/{name}"
            for name in ("README.md", "config.json", "model.safetensors", "sprint.json", "tokenizer.json")
        ),
    ],
)
def test_wheel_ships_what_is_not_python(wheel: Path, name: str) -> None:
    with ZipFile(wheel) as archive:
        assert name in archive.namelist()


def test_wheel_is_small_enough_to_ship_the_model(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_metadata_agrees_with_the_package(metadata: Message) -> None:
    assert metadata["Name"] == "sprint-agents"
    assert metadata["Version"] == sprint_agents.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    labels = {label.split(", ")[0] for label in metadata.get_all("Project-URL", [])}
    assert {"Source", "Issues", "Documentation", "Changelog"} <= labels


def test_base_install_is_light(metadata: Message) -> None:
    base = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {line.split(">")[0] for line in base} == {
        "httpx2",
        "pydantic",
        "structlog",
        "tenacity",
        "typing-extensions",
    }


def test_errors_name_extras_that_exist(metadata: Message) -> None:
    sources = [path.read_text("utf-8") for folder in PACKAGES.values() for path in folder.rglob("*.py")]
    named = {extra for source in sources for extra in re.findall(r"MissingExtra\(\s*\"([\w-]+)\"", source)}
    assert named
    assert named <= set(metadata.get_all("Provides-Extra", []))


def test_wheel_works_where_it_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    """The tags are found inside the installed package, not in the source tree."""
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sprint_agents, sprint_finetune, sprint_integrations\n"
        "from sprint_agents.dialects.tags.format import load_tags\n"
        "load_tags()\n"
        "print(sprint_agents.__file__, sprint_agents.__version__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "sprint_agents" / "__init__.py"), sprint_agents.__version__]


# What a visitor of the repository finds.


def test_workflow_runs_the_steps_of_a_change_on_every_version() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    lines = re.findall(r"^side_by_side (.*)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    lanes = [lane for line in lines for lane in shlex.split(line)]
    steps = {step.split()[0] for lane in lanes for step in lane.split(",")}  # without their variables
    assert "test" in steps
    assert steps <= set(re.findall(r"run: make ([a-z-]+)", workflow)) <= targets
    versions = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert re.search(r"python-version: \[(.*)\]", workflow)[1] == ", ".join(f'"{version}"' for version in versions)


def test_hooks_are_tools_that_setup_installs() -> None:
    hooks = re.findall(r"entry: \.venv/bin/([\w-]+)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert hooks == ["ruff", "ruff", "lint-imports"]
    for hook in hooks:
        assert Path(sysconfig.get_path("scripts"), hook).exists()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE", "CHANGELOG.md"])
def test_repository_has_what_a_visitor_looks_for(name: str) -> None:
    assert (ROOT / name).stat().st_size > 500


def test_commands_of_contributors_are_those_of_the_makefile() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", guide))
    assert {"setup", "test", "lint", "type", "docs"} <= named <= targets
