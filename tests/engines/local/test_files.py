"""Models by the forms of their names; the Hub is a server on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sprint_agents.engines import LocalEngine
from sprint_agents.errors import InvalidCheckpoint
from sprint_agents.nano import nano_path
from tests.hub import hub

PROGRAM = """
import sys
from sprint_agents.engines import LocalEngine
engine = LocalEngine(sys.argv[1])
print(engine.name, engine.manifest and engine.manifest.dialect)
"""


def load(model: str, address: str, home: Path, *, offline: bool = False) -> subprocess.CompletedProcess[str]:
    """Make an engine in a process, since the Hub's address and cache are read when its library is imported."""
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
    command = [sys.executable, "-c", PROGRAM, model]
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)


def test_a_name_is_downloaded_once(tmp_path: Path) -> None:
    with hub({"someone/nano": nano_path()}) as (address, asked):
        first = load("someone/nano", address, tmp_path)
        assert first.stdout.split() == ["local:sprint-nano", "tags"], first.stderr
        assert not any(".onnx" in path for path in asked)
        asked.clear()
        again = load("someone/nano", address, tmp_path, offline=True)
        assert again.stdout == first.stdout
        assert not asked


def test_an_unknown_name_says_what_to_do(tmp_path: Path) -> None:
    with hub({}) as (address, _):
        stderr = load("someone/unknown", address, tmp_path).stderr
    assert "InvalidCheckpoint: someone/unknown is not a directory here, and the Hub" in stderr
    assert "check the name" in stderr


def test_without_a_network_the_error_says_so(tmp_path: Path) -> None:
    stderr = load("someone/nano", "http://127.0.0.1:1", tmp_path, offline=True).stderr
    assert "HF_HUB_OFFLINE is set, and the model is not in the cache" in stderr


@pytest.mark.parametrize(
    "form", ["models/nano", "./nano", "/models/nano", "a/b/c", "nano", "~/nano", Path("some/nano")]
)
def test_a_path_with_a_mistake_never_asks_the_hub(form: str | Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidCheckpoint, match="is not a directory: give the folder"):
        LocalEngine(form)


def test_a_directory_precedes_a_name(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "someone").mkdir()
    (tmp_path / "someone" / "nano").symlink_to(nano_path())
    monkeypatch.chdir(tmp_path)
    assert LocalEngine("someone/nano").name == "local:sprint-nano"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InvalidCheckpoint, match="Give the path of a GGUF file"):
        LocalEngine("model.gguf")


def test_a_file_that_is_not_gguf(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"not this")
    with pytest.raises(InvalidCheckpoint, match="cannot be converted"):
        LocalEngine(tmp_path / "model.gguf")
    assert not any((tmp_path / "cache").rglob("config.json"))
