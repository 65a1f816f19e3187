"""Sources: traces, counted rejections, and errors."""

import json
from pathlib import Path

import pytest

from sprint_agents.errors import ConfigurationError
from sprint_finetune.curation import Columns, Reading, Rejection, Trace, from_dataset, from_jsonl, from_rows

GOOD = {"id": "a", "problem": "6*7?", "trace": "6*7 = 42\n\\boxed{42}", "answer": "42"}


def read(path: Path, *lines: object, reading: Reading | None = None) -> list[Trace | Rejection]:
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return [*from_jsonl(path, reading=reading)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


def test_lines_are_read_in_order_and_named(path: Path) -> None:
    one, other, third = read(path, GOOD, b"", {**GOOD, "id": None, "extra": 1}, {**GOOD, "id": 7, "answer": 42})
    assert one == Trace.model_validate(GOOD)
    assert isinstance(other, Trace)
    assert other.id.startswith("trace-")
    assert third == Trace.model_validate({**GOOD, "id": "7"})
    assert [*from_jsonl(path)] == [one, other, third]


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"{not json", "unreadable", "not valid JSON"),
        (b'"text"', "unreadable", "a str"),
        (b"[" * 100_000, "unreadable", "not valid JSON"),
        (b"\xff\xfe", "unreadable", "not UTF-8"),
        ({**GOOD, "trace": "  \n "}, "empty_trace", "'trace' is empty"),
        ({**GOOD, "trace": "<think>\n---\n</think>\nIt is \\boxed{42}."}, "empty_trace", "no line of reasoning"),
        ({**GOOD, "answer": ""}, "missing_field", "'answer' is empty"),
        ({**GOOD, "answer": ["42"]}, "missing_field", "holds"),
        ({"problem": "6*7?", "solution": "42"}, "missing_field", "its columns are 'problem', 'solution'"),
        ({**GOOD, "trace": "a" * 1_000_000}, "too_long", "1,000,000 characters"),
        ({**GOOD, "trace": "I write <Plan_1> here."}, "tag_in_text", "<Plan_1>"),
        ({**GOOD, "problem": "Write <think>."}, "tag_in_text", "<think>"),
    ],
)
def test_a_bad_line_is_a_rejection_and_its_neighbours_are_not(
    path: Path, line: object, reason: str, detail: str
) -> None:
    first, bad, last = read(path, GOOD, line, {**GOOD, "id": "b"})
    assert isinstance(first, Trace)
    assert isinstance(last, Trace)
    assert isinstance(bad, Rejection)
    assert (bad.id, bad.stage, bad.reason) == ("line-2", "read", reason)
    assert detail in bad.detail


def test_a_line_beyond_all_bounds_is_not_read_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sprint_finetune.curation.rows.LONGEST_LINE", 200)
    first, bad, last = read(path, GOOD, {**GOOD, "trace": "a" * 1_000}, {**GOOD, "id": "b"})
    assert isinstance(bad, Rejection)
    assert (bad.reason, bad.detail) == ("too_long", "the line has more than 200 bytes")
    assert [item.id for item in (first, last)] == ["a", "b"]


def test_the_bound_and_the_columns_are_the_readers(path: Path) -> None:
    reading = Reading(columns=Columns(problem="question", trace="cot", answer="gold"), longest=20)
    line = {"question": "6*7?", "cot": "6*7 = 42", "gold": "42"}
    good, long = read(path, line, {**line, "cot": "a" * 21}, reading=reading)
    assert isinstance(good, Trace)
    assert isinstance(long, Rejection)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.jsonl cannot be read: No such file"):
        list(from_jsonl(tmp_path / "none.jsonl"))


class RowSource(list[dict[str, object]]):
    """The part of a data set that the reader uses."""

    @property
    def column_names(self) -> list[str] | None:
        return sorted(self[0]) if self else None


def test_rows_are_read_as_lines_are() -> None:
    good, bad = from_rows(RowSource([GOOD, {**GOOD, "trace": None}]), name="rows")
    assert good == Trace.model_validate(GOOD)
    assert isinstance(bad, Rejection)
    assert (bad.id, bad.reason) == ("row-2", "missing_field")


def test_a_data_set_without_a_column_is_an_error_that_names_those_it_has() -> None:
    rows = RowSource([{"question": "6*7?", "trace": "6*7 = 42", "answer": "42"}])
    with pytest.raises(ConfigurationError, match="rows has no column 'problem': it has 'answer', 'question', 'trace'"):
        list(from_rows(rows, name="rows", reading=Reading(columns=Columns())))


def test_data_sets_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({**GOOD, "id": name}) + "\n" for name in "ab"))
    datasets.Dataset.from_list([GOOD]).save_to_disk(tmp_path / "saved")
    assert [item.id for item in from_dataset(str(folder))] == ["a", "b"]
    assert [item.id for item in from_dataset(str(folder / "train.jsonl"))] == ["a", "b"]
    assert [*from_dataset(str(tmp_path / "saved"))] == [Trace.model_validate(GOOD)]
    with pytest.raises(ConfigurationError, match="has no column 'gold'"):
        list(from_dataset(str(tmp_path / "saved"), reading=Reading(columns=Columns(answer="gold"))))
    (folder / "train.jsonl").write_text(json.dumps(GOOD) + "\n{not json\n")
    with pytest.raises(ConfigurationError, match=r"data' cannot be read: "):
        list(from_dataset(str(folder)))
    with pytest.raises(ConfigurationError, match="'nobody/nothing' cannot be loaded"):
        list(from_dataset("nobody/nothing"))
