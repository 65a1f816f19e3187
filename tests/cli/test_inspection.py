import json
from pathlib import Path

import pytest

from sprint_agents.cli.inspect import MAX_BYTES, inspect_file
from sprint_agents.errors import ConfigurationError
from sprint_agents.trajectory import Trajectory

LOG = Path(__file__).parents[1] / "trajectories" / "paper_format.txt"


def test_an_inspection_is_one_flat_object() -> None:
    inspection = inspect_file(LOG)
    record = json.loads(inspection.model_dump_json())
    assert record["file"] == str(LOG)
    assert record["answer"] == "35"
    assert record["diagnostics"] == []
    assert [subtask["number"] for subtask in record["stages"][0]["subtasks"]] == ["1.1", "1.2"]
    metrics = Trajectory.from_text(LOG.read_text()).metrics
    expected = metrics.model_dump()
    assert expected.pop("stages") == len(record["stages"])
    assert {name: record[name] for name in expected} == expected


def test_tokens_can_be_counted_by_a_tokenizer() -> None:
    inspection = inspect_file(LOG, count_tokens=len)
    assert inspection.token_unit == "tokens"
    assert inspection.stages[0].subtasks[0].execution_tokens > 70


def test_an_empty_file_has_no_plan_and_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.touch()
    inspection = inspect_file(path)
    assert (inspection.stages, inspection.answer, inspection.total_tokens) == ((), None, 0)
    assert [diagnostic.kind for diagnostic in inspection.diagnostics] == ["no_plan", "no_answer"]


def test_bytes_that_are_no_utf8_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("é? <Plan_1>ü".encode() + b"\xfc</Plan_1><Final_answer>4</Final_answer>")
    inspection = inspect_file(path)
    (diagnostic,) = inspection.diagnostics
    assert (diagnostic.kind, diagnostic.position) == ("undecodable_bytes", 12)
    assert "0xfc" in diagnostic.message
    assert inspection.answer == "4"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "marked.txt"
    path.write_text(LOG.read_text(), encoding=encoding)
    assert inspect_file(path).model_copy(update={"file": str(LOG)}) == inspect_file(LOG)


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    binary, huge = tmp_path / "model.bin", tmp_path / "huge.txt"
    binary.write_bytes(b"abc\0def")
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigurationError, match=r"model\.bin is a binary file \(a zero byte at offset 3\)"):
        inspect_file(binary)
    with pytest.raises(ConfigurationError, match=r"huge\.txt is larger than \d+ bytes"):
        inspect_file(huge)
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        inspect_file(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        inspect_file(tmp_path / "none.txt")
