"""``sprint serve`` as a process, asked over HTTP and interrupted."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from sprint_agents.cli.app import app
from sprint_agents.cli.options import SolveOptions
from sprint_agents.cli.serve import open_models
from sprint_agents.errors import ConfigurationError

TASK = "countdown 3 7 25 46"
MODULE = """
from sprint_agents import Sprint
from sprint_agents.testing import FakeEngine

one = Sprint(FakeEngine(["5"]))
many = {"five": one}
none = {"five": 5}
"""


@contextmanager
def serving(*arguments: str) -> Generator[str]:
    """Run the command on a free port, and interrupt it in the end; the address is in its first line."""
    command = [sys.executable, "-c", "from sprint_agents.cli import main; main()", "serve", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield line
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")


def test_recorded_runs_are_served() -> None:
    with serving("--engine", "fake") as line:
        found = re.fullmatch(r"serving (\S+) at (http://127\.0\.0\.1:\d+/v1)\n", line)
        assert found
        body = {"model": found[1], "messages": [{"role": "user", "content": TASK}]}
        reply = httpx2.post(f"{found[2]}/chat/completions", json=body).json()
        assert reply["choices"][0]["message"]["content"] == "25+(7*3)"


def models_of(target: str) -> list[str]:
    async def main() -> list[str]:
        async with open_models(target, SolveOptions()) as models:
            return list(models)

    return asyncio.run(main())


class TestModels:
    def test_of_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "models.toml"
        path.write_text('[models.first]\nengine = "fake"\n[models."a/b"]\nengine = "fake"\npolicy = "sequential"\n')
        assert models_of(str(path)) == ["first", "a/b"]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "has no models"),
            ("[models", "cannot be read"),
            ("[models.a]\nengine = 5", "a.engine: Input should be 'local'"),
            ("[models.a]\nsize = 5", "a.size: Unexpected keyword argument"),
        ],
    )
    def test_a_file_that_is_wrong_says_where(self, text: str, reason: str, tmp_path: Path) -> None:
        path = tmp_path / "models.toml"
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=reason):
            models_of(str(path))

    def test_of_a_module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "served_models.py").write_text(MODULE)
        monkeypatch.chdir(tmp_path)
        assert models_of("served_models:one") == ["one"]
        assert models_of("served_models:many") == ["five"]
        with pytest.raises(ConfigurationError, match="five is of type int"):
            models_of("served_models:none")

    @pytest.mark.parametrize("target", ["no_such_module:app", "json:nothing", "no_such_file", "none.toml", ":"])
    def test_what_cannot_be_loaded_says_what_to_give(self, target: str) -> None:
        result = CliRunner().invoke(app, ["serve", target])
        assert result.exit_code == 2
        assert "ConfigurationError" in result.stderr
        assert result.stderr.count("\n") == 1
