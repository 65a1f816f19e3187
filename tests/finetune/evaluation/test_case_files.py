"""Benchmarks in the forms in which they are published; the problems are our own."""

import asyncio
import json

import pytest

from sprint_agents.errors import ConfigurationError
from sprint_finetune.evaluation import Case, grader, load_cases
from sprint_finetune.grading.letters import options_of

MATH_500 = {
    "problem": "Compute $2^{10}$.",
    "solution": "Doubling ten times gives $\\boxed{1024}$.",
    "answer": "1024",
    "subject": "Algebra",
    "level": 1,
    "unique_id": "test/algebra/1.json",
}
MATH = {"problem": "Halve 3.", "level": "Level 1", "type": "Prealgebra", "solution": "It is \\boxed{\\frac32}."}
GSM8K = {"question": "Ann has 1200 pens and gets 34. How many?", "answer": "1200+34=<<1200+34=1234>>1234\n#### 1,234"}
AIME_2024 = {"ID": "2024-X-1", "Problem": "Find $6^2-3$.", "Solution": "It is 33.", "Answer": 33}
AIME_VALIDATION = {"id": 60, "problem": "Find $6^2-3$.", "solution": "It is 33.", "answer": "033", "url": "https://…"}
AIME_2025 = {"problem_idx": 1, "problem": "Find $6^2-3$.", "answer": 33, "problem_type": ["Algebra"]}
AIME_2025_QUESTION = {"question": "Find $6^2-3$.", "answer": "33"}
COUNTDOWN = {"target": 79, "nums": [3, 50, 7, 25]}
GPQA = {
    "Record ID": "rec1",
    "Question": "Which, then?\n",
    "Correct Answer": "a litre",
    "Incorrect Answer 1": "two, or more",
    "Incorrect Answer 2": "three",
    "Incorrect Answer 3": "four\n",
    "Explanation": "…",
}


def write(path, rows):
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        import csv

        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows, indent=2))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".csv"])
@pytest.mark.parametrize(
    ("row", "form", "case_id", "task", "answer"),
    [
        (MATH_500, "solution", "test/algebra/1.json", "Compute $2^{10}$.", "1024"),
        (MATH, "solution", "file-1", "Halve 3.", "\\frac32"),
        (GSM8K, "gsm8k", "file-1", GSM8K["question"], "1,234"),
        (AIME_2024, "solution", "2024-X-1", "Find $6^2-3$.", "33"),
        (AIME_VALIDATION, "solution", "60", "Find $6^2-3$.", "033"),
        (AIME_2025, "problem", "file-1", "Find $6^2-3$.", "33"),
        (AIME_2025_QUESTION, "problem", "file-1", "Find $6^2-3$.", "33"),
        (COUNTDOWN, "countdown", "file-1", "Use 50, 25, 7, 3 to make 79.", None),
    ],
    ids=["MATH-500", "MATH", "GSM8K", "AIME 2024", "AIME validation", "AIME 2025", "AIME 2025 question", "Countdown"],
)
def test_published_forms(tmp_path, suffix, row, form, case_id, task, answer):
    source = load_cases(write(tmp_path / f"file{suffix}", [row]))
    (case,) = source.cases
    assert (case.id, case.task, case.answer) == (case_id, task, answer)
    assert source.formats == {form: 1}
    assert source.bad == ()
    assert case.row.keys() == row.keys()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_choices_have_the_same_order_in_every_run(tmp_path, suffix):
    path = write(tmp_path / f"gpqa{suffix}", [GPQA])
    (case,) = load_cases(path).cases
    assert (case.id, load_cases(path).formats) == ("rec1", {"gpqa": 1})
    assert f"{case.answer}) a litre" in case.task
    assert sorted(options_of(case.task).values()) == ["a litre", "four", "three", "two, or more"]
    assert load_cases(path).cases == (case,)


def test_right_choices_are_spread_over_the_letters(tmp_path):
    rows = [GPQA | {"Question": f"Number {number}?", "Record ID": str(number)} for number in range(400)]
    letters = [case.answer for case in load_cases(write(tmp_path / "gpqa.csv", rows)).cases]
    assert all(60 < letters.count(letter) < 140 for letter in "ABCD")


def test_reference_answers_are_graded_by_value(tmp_path):
    rows = [AIME_VALIDATION, GSM8K, MATH, {"task": "Which? A) 1 B) 2", "answer": "B"}]
    cases = load_cases(write(tmp_path / "file.jsonl", rows)).cases

    async def graded(answers):
        async with grader() as check:
            return [await check(case, answer) for case, answer in zip(cases, answers, strict=True)]

    assert asyncio.run(graded(["\\boxed{33}", "1234 pens", "1.5", "**Answer: B**"])) == [True] * 4
    assert asyncio.run(graded(["\\boxed{34}", "1235", "2/3", "**Answer: A**"])) == [False] * 4


def test_bad_rows_are_counted_and_left_out(tmp_path):
    path = tmp_path / "file.jsonl"
    rows = [json.dumps(row) for row in (MATH_500, {"problem": "?"}, GPQA | {"Correct Answer": ""}, {"task": 7}, {})]
    rows += ["nonsense", "[1]", json.dumps({"nums": "none", "target": 3}), json.dumps(COUNTDOWN)]
    path.write_text("\n".join(rows))
    source = load_cases(path)
    assert [case.id for case in source.cases] == ["test/algebra/1.json", "file-9"]
    assert [(row.place, row.reason) for row in source.bad] == [
        ("line-2", "missing_field"),
        ("line-3", "missing_field"),
        ("line-4", "missing_field"),
        ("line-5", "missing_field"),
        ("line-6", "unreadable"),
        ("line-7", "unreadable"),
        ("line-8", "missing_field"),
    ]
    assert str(source).startswith(f"{path}: 2 cases (solution 1, countdown 1); 7 rows left out (missing_field 5, ")
    assert "line-2: it has no answer, and no program checks this task: its fields are problem" in str(source)


def test_prompts_without_answers_need_a_checker(tmp_path):
    path = write(tmp_path / "own.jsonl", [{"task": "Write a haiku.", "lines": 3}, {"prompt": "Write an ode."}])
    with pytest.raises(ConfigurationError, match="has no cases: line-1: it has no answer"):
        load_cases(path)
    haiku, ode = load_cases(path, checker=True).cases
    assert haiku == Case(id="own-1", task="Write a haiku.", row={"task": "Write a haiku.", "lines": 3})
    assert ode.task == "Write an ode."


def test_a_task_column_beside_a_problem_is_not_the_problem(tmp_path):
    row = {"task": "algebra", "question": "6*7?", "answer": "42"}
    assert load_cases(write(tmp_path / "file.jsonl", [row])).cases[0].task == "6*7?"


def test_every_case_has_its_own_id(tmp_path):
    rows = [{"id": "a", "task": "1+1", "answer": "2"}, {"id": "a", "task": "1+2", "answer": "3"}]
    path = write(tmp_path / "file.jsonl", rows)
    assert [case.id for case in load_cases(path).cases] == ["a", "file-2"]


def test_a_limit_counts_cases(tmp_path):
    path = write(tmp_path / "file.jsonl", [{}, COUNTDOWN, COUNTDOWN, COUNTDOWN])
    assert len(load_cases(path, limit=2).cases) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "?"}\n', "no cases: line-1: it has no answer"),
        ("nonsense\n", "no cases: line-1: this is not valid JSON"),
        ("[1]\n", "not a JSON object"),
        ("", "has no cases"),
        ('{"task": "\\ud800?", "answer": "1"}\n', "its task has half of a surrogate pair"),
        ('{"task": "1?", "answer": "\\ud800"}\n', "its answer has half of a surrogate pair"),
        ('{"task": "1?", "answer": "1"}\n'.encode("utf-16"), r"this is not UTF-8 \(invalid start byte at byte 0\)"),
    ],
)
def test_a_file_without_cases_is_refused(tmp_path, text, message):
    path = tmp_path / "cases.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match=message):
        load_cases(path)
