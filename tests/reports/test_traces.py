"""Text that UTF-8 cannot hold, and files with a byte order mark, in data for curation, training and evaluation."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sprint_agents.errors import ConfigurationError
from sprint_finetune.curation import CurationSettings, RuleExtractor, Trace, curate
from sprint_finetune.curation.json_answers import read_answer
from sprint_finetune.curation.records import Rejection
from sprint_finetune.curation.sources import from_jsonl, from_rows
from sprint_finetune.evaluation import load_cases

SURROGATES = pytest.mark.reported("daaain/claude-code-log#139", "rllm-org/rllm#879")
MARKS = pytest.mark.reported("daaain/claude-code-log#139")

GOOD = {"id": "good", "problem": "What is 6*7?", "trace": "6*7 = 42\nThe answer is \\boxed{42}.", "answer": "42"}


class SameText:
    async def equal(self, reference: str, stated: str) -> bool | None:
        return reference == stated


def outcomes(source: Any, folder: Path) -> dict[str, Any]:
    """Curate a source; return each line of the file of traces, and how many the report counts as unreadable."""
    items = list(source)
    for _ in range(2):  # the second time from what the first has written
        report = asyncio.run(
            curate(items, folder, extractor=RuleExtractor(), settings=CurationSettings(), verifier=SameText())
        )
    lines = [json.loads(line) for line in (folder / "traces.jsonl").read_text("utf-8").splitlines()]
    counted = sum(each.count for each in report.rejected if each.reason == "unreadable")
    return {line["id"]: line.get("rejection", {}).get("reason") for line in lines} | {"unreadable": counted}


@SURROGATES
@pytest.mark.parametrize("column", ["id", "problem", "trace", "answer"])
def test_half_of_a_surrogate_pair_in_a_row_rejects_the_row(column: str, tmp_path: Path) -> None:
    odd = {**GOOD, "id": "odd", column: f"{GOOD[column]} \ud83d"}
    file = tmp_path / "traces.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in (GOOD, odd, {**GOOD, "id": "last"})), encoding="utf-8")
    found = outcomes(from_jsonl(file), tmp_path / "out")
    name = "good \\ud83d" if column == "id" else "odd"
    assert found == {"good": None, name: "unreadable", "last": None, "unreadable": 1}


@SURROGATES
def test_half_of_a_surrogate_pair_in_a_trace_of_your_own(tmp_path: Path) -> None:
    traces = [Trace(**{**GOOD, "trace": GOOD["trace"] + "\ude00"}), Trace(**{**GOOD, "id": "b"})]
    assert outcomes(traces, tmp_path)["good"] == "unreadable"


@SURROGATES
def test_half_of_a_surrogate_pair_in_a_rejection_of_your_own(tmp_path: Path) -> None:
    odd = Rejection(id="a\ud83d", stage="read", reason="unreadable", detail="\ud83d")
    assert outcomes([odd], tmp_path) == {"a\\ud83d": "unreadable", "unreadable": 1}


@SURROGATES
def test_both_halves_are_an_emoji(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text(json.dumps({**GOOD, "trace": "\U0001f600 6*7 = 42\nThe answer is \\boxed{42}."}))
    (trace,) = from_jsonl(file)
    assert isinstance(trace, Trace)
    assert trace.trace.startswith("\U0001f600")


@SURROGATES
def test_half_of_a_surrogate_pair_in_a_models_json_is_a_fault_that_it_may_repair() -> None:
    class Words(BaseModel):
        words: str

    def words_in(text: str) -> object:
        return read_answer(text, Words, lambda answer: answer.words)

    assert words_in('{"words": "a \\ud83d"}').reason == "wrong_shape"  # type: ignore[attr-defined]
    assert words_in('{"words": "a \\ud83d\\ude00"}') == "a \U0001f600"


@MARKS
@pytest.mark.parametrize("between", ["", "\ufeff"])
def test_a_byte_order_mark_in_traces(between: str, tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text(f"\ufeff{json.dumps(GOOD)}\n{between}{json.dumps({**GOOD, 'id': 'b'})}\n", encoding="utf-8")
    assert [trace.id for trace in from_jsonl(file)] == ["good", "b"]


@MARKS
@pytest.mark.local
@pytest.mark.parametrize("between", ["", "\ufeff"])
def test_a_byte_order_mark_in_samples(between: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from sprint_finetune.training.corpus import read_samples

    rows = [json.dumps({"id": name, "problem": "p", "text": "t"}) for name in "ab"]
    file = tmp_path / "samples.jsonl"
    file.write_text(f"\ufeff{rows[0]}\n{between}{rows[1]}\n", encoding="utf-8")
    assert [sample.id for sample in read_samples([file])] == ["a", "b"]


@SURROGATES
@pytest.mark.local
@pytest.mark.parametrize("column", ["id", "problem", "text", "other"])
def test_half_of_a_surrogate_pair_in_a_sample_names_its_line(column: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from sprint_finetune.training.corpus import read_samples

    file = tmp_path / "samples.jsonl"
    file.write_text(json.dumps({"id": "a", "problem": "p", "text": "t"} | {column: "\ud83d"}))
    with pytest.raises(ConfigurationError, match=r"samples\.jsonl:1 has half of a surrogate pair.*remove it"):
        read_samples([file])


@MARKS
@pytest.mark.parametrize("name", ["cases.jsonl", "cases.csv"])
def test_a_byte_order_mark_in_cases(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    row = '{"id": "a", "task": "go", "answer": "1"}\n' if name.endswith("jsonl") else "id,task,answer\na,go,1\n"
    file.write_text(f"\ufeff{row}", encoding="utf-8")
    assert [(case.id, case.task) for case in load_cases(file).cases] == [("a", "go")]


@SURROGATES
def test_rows_of_a_data_set(tmp_path: Path) -> None:
    class Rows(list[dict[str, Any]]):
        column_names = None

    assert outcomes(from_rows(Rows([{**GOOD, "problem": "\udc00"}]), name="d"), tmp_path)["good"] == "unreadable"
