"""The command as a whole: version, errors, exit codes, logs."""

import subprocess
import sys
from pathlib import Path

import pytest

import sprint_agents
from sprint_agents.testing import FakeEngine, Fault, Reply

SOLVABLE = "countdown 3 7 25 46"


def test_version(call) -> None:
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"sprint-agents {sprint_agents.__version__}\n")


@pytest.mark.parametrize("command", ["run", "batch", "inspect", "demo"])
def test_every_command_has_help(call, command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"sprint {command}" in result.stdout


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_its_extra_the_command_names_it(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from sprint_agents.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: MissingExtra: this needs {module}, which is not installed: pip install 'sprint-agents[cli]'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["", "--engine", "fake"], "UnsupportedTask: the task is empty"),
        (
            ["tell me a joke", "--engine", "fake"],
            "UnsupportedTask: sprint-nano understands countdown, arithmetic, multiplication only",
        ),
        ([SOLVABLE, "--engine", "fake", "--policy", "magic"], "UnknownPolicy: there is no policy 'magic'"),
        ([SOLVABLE, "--engine", "fake", "--model", "somewhere"], "ConfigurationError: the fake engine has no model"),
        ([SOLVABLE, "--model", "no/such/directory"], "InvalidCheckpoint: "),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(call, arguments: list[str], error: str) -> None:
    result = call("run", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {error}")
    assert result.stderr.count("\n") == 1


def test_a_task_that_was_not_recorded_is_one_line_and_exit_code_2(call) -> None:
    result = call("run", "countdown 3 7 26 46", "--engine", "fake")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: UnsupportedTask: --engine fake replays recorded runs, and none has this")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "option", [("--engine", "gpu"), ("--max-stages", "0"), ("--timeout", "0"), ("--temperature", "-1")]
)
def test_a_wrong_option_is_refused_by_name(call, option: tuple[str, str]) -> None:
    result = call("run", SOLVABLE, "--engine", "fake", *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert option[0] in result.stderr


def test_a_failed_run_is_one_line_and_exit_code_1(call, use_engine) -> None:
    use_engine(FakeEngine(Reply("", fault=Fault.drop(after=0))))
    result = call("run", "anything", "--engine", "fake")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: EngineUnavailable: the connection was lost")
    assert result.stderr.count("\n") == 1


def test_logs_go_to_stderr_and_keep_to_their_level(call, use_engine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "<Final_answer>\\boxed{4}</Final_answer>"
    arguments = ("run", "2+2?", "--engine", "fake", "--failure", "retry")
    use_engine(FakeEngine(answer, faults={1: Fault.drop()}))
    result = call(*arguments)
    assert result.exit_code == 0
    assert "trying again" in result.stderr
    assert "trying again" not in result.stdout
    monkeypatch.setenv("SPRINT_LOG_LEVEL", "error")
    use_engine(FakeEngine(answer, faults={1: Fault.drop()}))
    assert call(*arguments).stderr == ""


def test_an_unknown_log_level_is_refused(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINT_LOG_LEVEL", "loud")
    result = call("run", SOLVABLE, "--engine", "fake")
    assert result.exit_code == 2
    assert "$SPRINT_LOG_LEVEL is 'loud'" in result.stderr


def test_the_console_script_is_this_command(tmp_path: Path) -> None:
    code = "from sprint_agents.cli import main; main()"
    command = [sys.executable, "-c", code, "run", SOLVABLE, "--engine", "fake"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "right, a program checked it" in done.stdout
    assert done.stderr == ""
