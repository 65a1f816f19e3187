"""``sprint-finetune push``; the Hub is a server on this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sprint_agents.nano import nano_path
from sprint_finetune.cli.commands import app
from tests.hub import TOKEN, hub

LOAD = "import sys; from sprint_agents.engines import LocalEngine; print(LocalEngine(sys.argv[1]).manifest.model)"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint without a card, and what a training run leaves beside it."""
    directory = tmp_path / "mine"
    shutil.copytree(nano_path(), directory, ignore=shutil.ignore_patterns("README.md"))
    for name in ("trainer_state.json", "optimizer.pt"):
        (directory / name).write_text("{}")
    (directory / "checkpoint-100").mkdir()
    return directory


def run(home: Path, address: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process, since the Hub's address is read when its library is imported."""
    # Its transfer protocol of large files needs servers of its own.
    hub_at = {"HF_ENDPOINT": address, "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"} | hub_at | variables
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


def push(checkpoint: Path, address: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ("-m", "sprint_finetune.cli", "push", str(checkpoint), "me/mine", *options)
    return run(checkpoint.parent, address, *command, **variables)


def test_what_is_pushed_can_be_loaded_by_name(checkpoint: Path, tmp_path: Path) -> None:
    repositories: dict[str, Path] = {}
    with hub(repositories, root=tmp_path / "there") as (address, _):
        done = push(checkpoint, address, "--private", HF_TOKEN=TOKEN)
        assert done.returncode == 0, done.stderr
        assert f"are at {address}/me/mine" in done.stdout
        loaded = run(tmp_path, address, "-c", LOAD, "me/mine", HF_TOKEN=TOKEN)
        assert loaded.stdout == "sprint-nano\n", loaded.stderr
    there = {path.name: path.read_bytes() for path in repositories["me/mine"].iterdir()}
    card = there.pop("README.md").decode()
    assert 'LocalEngine("me/mine")' in card
    assert there == {path.name: path.read_bytes() for path in nano_path().iterdir() if path.name != "README.md"}


def test_a_public_repository_is_not_taken_for_a_private_one(checkpoint: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with hub({"me/mine": there}) as (address, _):
        done = push(checkpoint, address, "--private", HF_TOKEN=TOKEN)
    assert "me/mine exists and is public" in done.stderr
    assert not any(there.iterdir())


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "you are not logged in to the Hub: run `hf auth login`, or set HF_TOKEN"),
        ({"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HF_TOKEN": "hf_wrong"}, "did not take me/mine"),
    ],
)
def test_the_hub_cannot_or_will_not(checkpoint: Path, tmp_path: Path, variables: dict[str, str], message: str) -> None:
    with hub({}, root=tmp_path / "there") as (address, _):
        done = push(checkpoint, address, **variables)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


class TestWithoutTheHub:
    def test_a_dry_run_lists_the_files(self, checkpoint: Path) -> None:
        done = CliRunner().invoke(app, ["push", str(checkpoint), "me/mine", "--private", "--dry-run"])
        assert done.exit_code == 0
        *files, last = done.stdout.splitlines()
        assert "README.md (new)" in files[-1]
        assert {line.split()[1] for line in files} == {path.name for path in nano_path().iterdir()}
        assert last.endswith("would go to me/mine, private if it is created")

    @pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors", "sprint.json"])
    def test_a_directory_without_a_part(self, checkpoint: Path, missing: str) -> None:
        (checkpoint / missing).unlink()
        done = CliRunner().invoke(app, ["push", str(checkpoint), "me/mine", "--dry-run"])
        assert done.exit_code == 2
        assert f"is not a checkpoint of this library: it has no {missing.replace('model', '*')}" in done.stderr

    def test_no_directory(self, tmp_path: Path) -> None:
        done = CliRunner().invoke(app, ["push", str(tmp_path / "none"), "me/mine", "--dry-run"])
        assert "InvalidCheckpoint" in done.stderr

    @pytest.mark.parametrize("name", ["mine", "me/", "https://hf.co/me/mine", "a/b/c"])
    def test_no_name_on_the_hub(self, checkpoint: Path, name: str) -> None:
        done = CliRunner().invoke(app, ["push", str(checkpoint), name, "--dry-run"])
        assert "is not a name on the Hub: give OWNER/NAME" in done.stderr
