"""`sprint run`: JSON, lines, limits, journal, interruption."""

import json
import signal
from pathlib import Path

import pytest

from sprint_agents import Run, Usage
from sprint_agents.nano.tasks import Countdown
from sprint_agents.testing import FakeEngine, Fault, Prompt

SOLVABLE, UNSOLVABLE = "countdown 3 7 25 46", "countdown 1 1 2 90"
AT_ONCE = "countdown 5 39 37 71"  # recorded without a plan too


def run_line(text: str) -> dict[str, object]:
    """Take stdout as exactly one JSON object on one line."""
    assert text.count("\n") == 1
    line = json.loads(text)
    assert {"id", "task", "answer", "verified", "stages", "usage", "error"} <= line.keys()
    return line


@pytest.mark.parametrize("policy", ["interleaved", "sequential"])
@pytest.mark.parametrize("form", [SOLVABLE, "Use 25, 7, 3 to make 46."])
def test_json_is_the_run(call, policy: str, form: str) -> None:
    result = call("run", form, "--engine", "fake", "--policy", policy, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    line = run_line(result.stdout)
    run = Run[str].model_validate_json(result.stdout)
    assert (line["task"], line["policy"], line["verified"], line["error"]) == (form, policy, True, None)
    assert Countdown(numbers=(3, 7, 25), target=46).check(run.answer or "")
    assert run.usage.stages == len(run.stages) > 0
    assert run.usage.total_tokens > 0


def test_json_of_a_wrong_answer_is_no_failure(call) -> None:
    result = call("run", UNSOLVABLE, "--engine", "fake", "--json")
    line = run_line(result.stdout)
    assert (result.exit_code, line["verified"], line["error"]) == (0, False, None)


def test_json_without_a_checker_is_not_verified(call, use_engine) -> None:
    use_engine(FakeEngine("<Final_answer>\\boxed{4}</Final_answer>"))
    line = run_line(call("run", "2+2?", "--engine", "fake", "--json").stdout)
    assert (line["answer"], line["verified"]) == ("4", None)


def test_json_of_a_failed_run_has_the_run_so_far(call, use_engine) -> None:
    plan = "<Plan_1>\n<prompt_1.1>go</prompt_1.1>\n</Plan_1>"
    use_engine(FakeEngine([plan, "done</execution_1.1>", ""], faults={3: Fault.drop()}))
    result = call("run", "any task", "--engine", "fake", "--json")
    line = run_line(result.stdout)
    assert result.exit_code == 1
    assert line["answer"] is None
    assert line["error"]["type"] == "EngineUnavailable"
    assert len(line["stages"]) == 1
    assert result.stderr.startswith("error: EngineUnavailable: ")


@pytest.mark.parametrize(
    ("task", "options", "error"),
    [("", [], "UnsupportedTask"), ("a poem", [], "UnsupportedTask"), (SOLVABLE, ["--policy", "x"], "UnknownPolicy")],
)
def test_json_of_a_wrong_call_has_the_error_too(call, task: str, options: list[str], error: str) -> None:
    result = call("run", task, "--engine", "fake", "--json", *options)
    line = run_line(result.stdout)
    assert result.exit_code == 2
    assert (line["task"], line["answer"], line["stages"]) == (task, None, [])
    assert line["error"]["type"] == error
    assert Usage.model_validate(line["usage"]) == Usage()


@pytest.mark.local
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nano", "nano is not a directory: give the folder that holds config.json"),
        ("empty", "empty has no config.json: give the folder that save_pretrained wrote"),
        ("missing.gguf", "missing.gguf cannot be read: No such file or directory. Give the path of a GGUF file"),
        ("nobody/none", "HF_HUB_OFFLINE is set, and the model is not in the cache"),
    ],
)
def test_a_model_that_is_not_there(call, tmp_path: Path, monkeypatch, model: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    result = call("run", SOLVABLE, "--engine", "local", "--model", model)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: InvalidCheckpoint: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_lines_say_what_was_done(call) -> None:
    result = call("run", SOLVABLE, "--engine", "fake")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{SOLVABLE}  interleaved on recorded runs (--engine fake)"
    assert [line for line in lines if line.startswith("  1.3  25 + 3: none  (")]
    assert "stage 1  Sums and differences first; 6 subtasks: 6 finished" in lines
    assert lines[-2].startswith("answer  25+(7*3)  (right, a program checked it)")
    assert "speed-up" in lines[-1]
    assert "\x1b" not in result.stdout


def test_lines_of_failed_executions_say_why(call, use_engine) -> None:
    plan = "<Plan_1>\n<prompt_1.1>go</prompt_1.1>\n</Plan_1>"
    answer = "<Final_answer>none</Final_answer>"
    use_engine(FakeEngine([plan, "lost", answer], faults={2: Fault.drop()}))
    result = call("run", "any task", "--engine", "fake")
    assert "  1.1  go: failed: EngineUnavailable: the connection was lost" in result.stdout
    assert "1 subtask: 1 failed" in result.stdout
    assert "answer  none  (not checked)" in result.stdout


@pytest.mark.parametrize(
    ("task", "options", "error"),
    [
        (SOLVABLE, ["--max-tokens", 30], "BudgetExceeded"),
        (AT_ONCE, ["--execution-tokens", 5, "--plan-tokens", 5, "--max-stages", 1], None),
        (SOLVABLE, ["--concurrency", 1, "--failure", "fail_fast"], None),
    ],
)
def test_limits_reach_the_run(call, task: str, options: list[object], error: str | None) -> None:
    line = run_line(call("run", task, "--engine", "fake", "--json", *options).stdout)
    assert (line["error"] and line["error"]["type"]) == error
    assert line["usage"]["total_tokens"] <= 30 or error is None
    if "--max-stages" in options:
        assert len(line["stages"]) == 1


def test_concurrency_bounds_the_executions(call, use_engine) -> None:
    prompts = "".join(f"<prompt_1.{number}>go</prompt_1.{number}>\n" for number in range(1, 9))
    replies = {"": f"<Plan_1>\n{prompts}</Plan_1>", "<execution_1.": "x</execution_1.", "</Execution_1>": "4"}
    engine = use_engine(FakeEngine({**replies, "</Execution_1>": "<Final_answer>4</Final_answer>"}))
    call("run", "any task", "--engine", "fake", "--concurrency", 2)
    assert engine.account().started == 10
    assert engine.account().peak == 2


def test_sampling_options_reach_the_engine(call, use_engine) -> None:
    engine = use_engine(FakeEngine("<Final_answer>4</Final_answer>"))
    call("run", "2+2?", "--engine", "fake", "--temperature", 0, "--seed", 7)
    (request,) = (record.request for record in engine.requests)
    assert (request.sampling.temperature, request.sampling.seed) == (0, 7)


def test_timeout_ends_a_run(call, use_engine) -> None:
    engine = use_engine(FakeEngine("never", faults={1: Fault.hang()}))
    result = call("run", "any task", "--engine", "fake", "--timeout", 0.01, "--json")
    assert (result.exit_code, run_line(result.stdout)["error"]["type"]) == (1, "DeadlineExceeded")
    assert engine.account().running == 0


def test_a_journal_is_taken_up(call, use_engine, tmp_path: Path) -> None:
    plan = "<Plan_1>\n<prompt_1.1>go</prompt_1.1>\n</Plan_1>"
    arguments = ("run", "any task", "--engine", "fake", "--journal", tmp_path / "journal")
    # One engine for both calls: the ids of a journal hold in one vocabulary.
    script = [plan, "42</execution_1.1>", "", "<Final_answer>42</Final_answer>"]
    engine = use_engine(FakeEngine(script, faults={3: Fault.drop()}))
    assert call(*arguments).exit_code == 1
    result = call(*arguments)
    assert result.exit_code == 0
    assert "stage 1  1 subtask: 1 finished; from the journal" in result.stdout
    assert engine.account().started == 4


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_interruption_aborts_the_run(call, use_engine, options: list[str]) -> None:
    def interrupted(prompt: Prompt) -> str:
        if prompt.number == 3:
            signal.raise_signal(signal.SIGINT)
        return "<Plan_1>\n<prompt_1.1>a</prompt_1.1>\n<prompt_1.2>b</prompt_1.2>\n</Plan_1>"

    engine = use_engine(FakeEngine(interrupted, faults={2: Fault.hang(), 3: Fault.hang()}))
    result = call("run", "any task", "--engine", "fake", *options)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert (engine.account().running, engine.account().aborted) == (0, 2)
