"""`sprint inspect`: one object a line, or a table."""

import json
from pathlib import Path

import pytest

from sprint_agents.cli.engines import recorded_engine
from sprint_agents.cli.inspect import inspect_file
from sprint_agents.sprint import Sprint

TASK = "countdown 3 7 25 46"


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    path = tmp_path / "run.txt"
    path.write_text(Sprint(recorded_engine()).run_sync(TASK).transcript)
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
