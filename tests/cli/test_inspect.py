"""`sprint inspect`: one object a line, or a table."""

import asyncio
import json
from pathlib import Path

import pytest

from sprint_agents import Budget
from sprint_agents.cli.engines import recorded_engine
from sprint_agents.cli.inspect import inspect_file
from sprint_agents.errors import DeadlineExceeded
from sprint_agents.sprint import Sprint
from sprint_agents.testing import FakeEngine, run_virtual

TASK = "countdown 3 7 25 46"


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    path = tmp_path / "run.txt"
    path.write_text(Sprint(recorded_engine(), settles=False).run_sync(TASK).transcript)
    return path


def test_json_is_one_object_a_line(call, transcript: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_text("<Plan_1>\n<prompt_1.1>never closed")
    result = call("inspect", transcript, broken, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first == json.loads(inspect_file(transcript).model_dump_json())
    assert (first["file"], first["answer"], first["diagnostics"]) == (str(transcript), "25+(7*3)", [])
    assert [subtask["number"] for subtask in first["stages"][0]["subtasks"]] == [f"1.{n}" for n in range(1, 7)]
    assert second["answer"] is None
    assert second["diagnostics"]


def test_a_table_says_the_same(call, transcript: Path) -> None:
    inspection = inspect_file(transcript)
    text = call("inspect", transcript).stdout
    assert str(transcript) in text
    assert "25+(7*3)" in text
    assert f"{inspection.sequential_tokens_strict:,} words" in text
    for subtask in inspection.stages[0].subtasks:
        assert subtask.number in text


def test_a_file_that_cannot_be_read_does_not_stop_the_others(call, transcript: Path, tmp_path: Path) -> None:
    result = call("inspect", tmp_path / "missing.txt", transcript, "--json")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: ConfigurationError: {tmp_path / 'missing.txt'} cannot be read")
    assert json.loads(result.stdout)["answer"] == "25+(7*3)"


def test_a_journal_shows_its_open_stage(call, tmp_path: Path) -> None:
    async def work(subtask):
        await asyncio.sleep(60 if subtask.prompt == "c" else 0)
        return "done"

    plans = "<prompt_1.1>a</prompt_1.1><prompt_1.2>b</prompt_1.2><prompt_1.3>c</prompt_1.3>"
    engine = FakeEngine({"": f"<Plan_1>{plans}</Plan_1>", "</Execution_1>": "<Final_answer>4</Final_answer>"})
    path = tmp_path / "run.jsonl"
    with pytest.raises(DeadlineExceeded):
        run_virtual(Sprint(engine, executor=work, budget=Budget(seconds=5)).run("question", journal=path))
    content = path.read_bytes()
    found = json.loads(call("inspect", path, "--json").stdout)
    (stage,) = found["stages"]
    assert stage["open"]
    assert [subtask["number"] for subtask in stage["subtasks"]] == ["1.1", "1.2"]
    assert found["total_tokens"] == engine.account().generated_tokens
    assert "stage 1 is open: 2 executions have finished" in call("inspect", path).stdout
    assert path.read_bytes() == content
    run_virtual(Sprint(engine, executor=work).run("question", journal=path))
    found = json.loads(call("inspect", path, "--json").stdout)
    assert [(stage["open"], len(stage["subtasks"])) for stage in found["stages"]] == [(False, 3), (False, 0)]
    assert (found["answer"], found["width"]) == ("4", 3)
