"""The formats in which people publish reasoning traces are recognised, in every kind of file."""

import asyncio
import gzip
import json
import math
from pathlib import Path

import pytest

from sprint_agents.errors import ConfigurationError
from sprint_finetune.curation import Rejection, RuleExtractor, Trace, curate, from_file
from sprint_finetune.evaluation import load_cases

CHAIN = "I multiply.\n6*7 = 42."
THOUGHT = f"<think>\n{CHAIN}\n</think>\nIt is \\boxed{{42}}."
MARKED = (
    f"<|begin_of_thought|>\n{CHAIN}\n<|end_of_thought|>\n<|begin_of_solution|>It is \\boxed{{42}}.<|end_of_solution|>"
)
ROWS = {
    "messages": {
        "messages": [{"role": "user", "content": "6*7?"}, {"role": "assistant", "content": THOUGHT}],
        "answer": "42",
    },
    "messages, reasoning_content": {
        "messages": [
            {"role": "system", "content": "Think."},
            {"role": "user", "content": "6*7?"},
            {"role": "assistant", "content": "It is \\boxed{42}.", "reasoning_content": CHAIN},
        ],
        "answer": "42",
    },
    "messages, TRL": {
        "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "6*7?"}],
        "completion": [{"role": "assistant", "content": THOUGHT}],
        "answer": "42",
    },
    "messages, parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "6*7?"}]},
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": CHAIN}, {"type": "text", "text": "It is \\boxed{42}."}],
            },
        ],
        "answer": "42",
    },
    "sharegpt": {
        "system": "Think.",
        "conversations": [{"from": "human", "value": "6*7?"}, {"from": "gpt", "value": THOUGHT}],
        "ground_truth": "42",
    },
    "sharegpt, OpenThoughts": {
        "conversations": [{"from": "user", "value": "6*7?"}, {"from": "assistant", "value": MARKED}],
        "answer": 42,
    },
    "openthoughts": {
        "problem": "6*7?",
        "deepseek_reasoning": CHAIN,
        "deepseek_solution": "It is \\boxed{42}.",
        "ground_truth_solution": "We find \\boxed{42}.",
        "domain": "math",
    },
    "openr1": {
        "problem": "6*7?",
        "solution": "42 indeed",
        "answer": "42",
        "uuid": "u",
        "generations": [THOUGHT],
        "correctness_math_verify": [True],
    },
    "s1k": {
        "question": "6*7?",
        "solution": "42",
        "cot": None,
        "thinking_trajectories": [CHAIN],
        "attempt": "It is \\boxed{42}.",
    },
    "s1k, 1.1": {
        "question": "6*7?",
        "solution": "42",
        "deepseek_thinking_trajectory": CHAIN,
        "deepseek_attempt": "It is \\boxed{42}.",
    },
    "solution, LIMO": {"question": "6*7?", "solution": THOUGHT, "answer": "42"},
    "solution, MATH": {
        "problem": "6*7?",
        "level": "Level 1",
        "type": "Algebra",
        "solution": f"{CHAIN}\nSo \\boxed{{42}}.",
    },
    "solution, without a value": {"problem": "6*7?", "solution": f"{CHAIN}\nSo \\boxed{{42}}.", "answer": math.nan},
    "solution, AIME": {"ID": "2024-I-1", "Problem": "6*7?", "Solution": f"{CHAIN}\nSo \\boxed{{42}}.", "Answer": 42},
    "gsm8k": {"question": "6*7?", "answer": "I multiply.\n6*7 = <<6*7=42>>42.\n#### 42"},
    "completion": {"prompt": "6*7?", "response": THOUGHT, "expected_answer": "42"},
    "own": {"problem": "6*7?", "trace": THOUGHT, "answer": "42"},
}


@pytest.mark.parametrize("name", ROWS)
def test_a_format_is_recognised(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[name]))
    (trace,) = from_file(path)
    assert isinstance(trace, Trace)
    assert (trace.format, trace.problem, trace.answer) == (name.partition(",")[0], "6*7?", "42")
    assert "I multiply." in trace.trace
    assert "<<" not in trace.trace
    assert "<|" not in trace.trace


def test_every_generation_is_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**ROWS["openr1"], "generations": [THOUGHT, f"{THOUGHT} Yes."]}))
    assert [trace.id for trace in from_file(path)] == ["u/1", "u/2"]


def test_responses_to_one_problem_have_ids_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"problem_id": "p", "response_id": name, **ROWS["completion"]} for name in "ab"]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [trace.id for trace in from_file(path)] == ["a", "b"]


def test_the_input_of_an_instruction_belongs_to_the_problem(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    row = {"instruction": "Multiply.", "output": THOUGHT, "answer": "42"}
    path.write_text(json.dumps([{**row, "input": "6*7"}, {**row, "input": ""}]))
    assert [trace.problem for trace in from_file(path) if isinstance(trace, Trace)] == ["Multiply.\n\n6*7", "Multiply."]


@pytest.mark.parametrize("kind", ["jsonl", "bom", "array", "array.json", "parquet"])
def test_a_file_is_recognised_by_its_content(kind: str, tmp_path: Path) -> None:
    rows = [{"id": name, **ROWS["own"]} for name in "ab"]
    path = tmp_path / (f"rows.{kind}" if kind.endswith("json") else "rows.data")
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind.startswith("array"):
        path.write_text(f"\ufeff{json.dumps(rows, indent=2)}")
    else:
        mark = "\ufeff" if kind == "bom" else ""
        path.write_text(mark + "\n".join(map(json.dumps, rows)))
    assert [item.id for item in from_file(path)] == ["a", "b"]


def test_bad_rows_are_counted_and_end_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    digits = "7" * 5_000
    lines = [
        '{"problem": "\\ud800?", "trace": "a", "answer": "1"}',
        f'{{"problem": "How long?", "trace": "It is\\n{digits}.", "answer": {digits}}}',
        '{"problem": null, "conversations": [null, 7]}',
        '{"messages": "none"}',
        "[1, 2]",
        json.dumps({"id": "twice", **ROWS["own"]}),
        json.dumps({"id": "twice", **ROWS["messages"]}),
        json.dumps({"id": "last", **ROWS["own"]}),
    ]
    path.write_text("\n".join(lines))
    report = asyncio.run(curate(from_file(path), tmp_path / "out", extractor=RuleExtractor()))
    counts = {(count.stage, count.reason): count.count for count in report.rejected}
    assert counts["read", "unreadable"] == 2
    assert counts["read", "missing_field"] == 2
    assert counts["read", "duplicate"] == 1
    assert report.traces == 8
    assert report.formats == {"own": 3}
    told = next(count.example for count in report.rejected if count.reason == "duplicate")
    assert "the id 'twice' is not unique" in told


def test_an_array_that_breaks_off_keeps_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROWS["own"], ROWS["gsm8k"]])[:-20])
    first, last = from_file(path)
    assert isinstance(first, Trace)
    assert isinstance(last, Rejection)
    assert last.reason == "unreadable"


@pytest.mark.parametrize(
    ("name", "text"),
    [("rows.json", '[{"problem": "6\u00b77?"}]'), ("rows.csv", "problem,trace,answer\n6\u00b77?,a,42\n")],
)
def test_files_in_other_encodings_are_rejected(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    (bad,) = from_file(path)
    assert isinstance(bad, Rejection)
    assert (bad.id, bad.reason) == ("file", "unreadable")
    assert "not UTF-8" in bad.detail


def test_a_compressed_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(ROWS["own"]).encode()))
    with pytest.raises(ConfigurationError, match="compressed with gzip: decompress it first"):
        list(from_file(path))


def test_benchmarks_in_their_published_forms(tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    rows = [ROWS["gsm8k"], ROWS["solution, MATH"], {"ID": "I-1", "Problem": "6*7?", "Answer": 42}]
    path.write_text(json.dumps(rows))
    assert [(case.id, case.task, case.answer) for case in load_cases(path).cases] == [
        ("cases-1", "6*7?", "42"),
        ("cases-2", "6*7?", "42"),
        ("I-1", "6*7?", "42"),
    ]
