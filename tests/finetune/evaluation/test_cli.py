"""`sprint-finetune evaluate`: its options, on recorded runs and on a scripted server."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sprint_finetune.cli.commands import app
from tests.engines.openai.scripted import says, served

TASK = "countdown 3 7 25 46"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"task": TASK, "longest": 12}) + "\n")
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)


def written(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "outcomes.jsonl").read_text().splitlines()]


def test_a_folder_that_cannot_be_written_is_refused(own: Path) -> None:
    done = call(own, "--engine", "fake", "--out", own / "out")
    assert done.exit_code == 2
    assert "outcomes.jsonl cannot be read and written: Not a directory" in done.output


def test_tables_are_written_in_three_forms(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call(own, "--engine", "fake", "--out", out)
    assert done.exit_code == 0
    assert done.stdout.strip() == (out / "table.md").read_text().strip()
    assert "| all | sequential | 1 | 0 | 0 | 100.0 (20.7 to 100.0) |" in done.stdout
    assert "bootstrap of 2000 draws of the cases with seed 0" in done.stdout
    with (out / "table.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["sequential", "interleaved"]
    table = json.loads((out / "table.json").read_text())
    assert [row["accuracy"] for row in table["rows"]] == [1, 1]
    assert table["bootstrap"] == {"resamples": 2000, "seed": 0}


CHECKS = """
def short(case, answer):
    return len(answer) <= case.row["longest"]

def broken(case, answer):
    raise LookupError("no such row")

def many(case, answer):
    yield True
"""


def test_a_checker_of_a_file(own: Path, tmp_path: Path) -> None:
    (tmp_path / "checks.py").write_text(CHECKS)
    assert (
        call(own, "--engine", "fake", "--checker", f"{tmp_path}/checks.py:short", "--out", tmp_path / "a").exit_code
        == 0
    )
    assert [line["correct"] for line in written(tmp_path / "a")] == [True, True]
    done = call(own, "--engine", "fake", "--checker", f"{tmp_path}/checks.py:broken", "--out", tmp_path / "b")
    assert done.exit_code == 0
    assert "2 answers were not checked, the first one: LookupError: no such row" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checker", "checks.py:none"], "checks.py:none cannot be loaded"),
        (["--checker", "no_such_module:f"], "give MODULE:FUNCTION or FILE.py:FUNCTION"),
        (["--checker", "checks.py:many"], "is a generator function"),
        (["--policy", "self_consistency"], "draws the same answer every time: give a --temperature"),
        (["--policy", "nothing"], "there is no policy 'nothing'"),
        (["--url", "http://127.0.0.1:1"], "the fake engine is not a server"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "checks.py").write_text(CHECKS)
    monkeypatch.chdir(tmp_path)
    done = call(own, "--engine", "fake", "--out", "out", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert written(tmp_path / "out") == []


def test_a_folder_that_was_begun_otherwise_is_refused(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checks.py").write_text(CHECKS)
    monkeypatch.chdir(tmp_path)
    command = [own, "--out", "out", "--engine", "openai", "--model", "one", "--checker", "checks.py:short"]
    with served(says('{"answer": "46"}')) as server, served(says('{"answer": "46"}')) as moved:
        assert call(*command, "--url", server.base).exit_code == 0
        asked = len(server.sent)
        for changed, names in (
            (["--checker", "checks.py:broken"], "checker"),
            (["--check-seconds", 5], "seconds of a check"),
            (["--model", "two"], "executor's model, model"),
            (["--plan-tokens", 7], "limits"),
            (["--max-tokens", 700], "budget"),
            (["--temperature", 0.5], "sampling"),
        ):
            done = call(*command, "--url", server.base, *changed)
            assert done.exit_code == 2
            assert f"Changed since: {names}. Repeat the command that began it, or give another --out" in done.stderr
        (tmp_path / "checks.py").write_text(CHECKS.replace("<=", "<"))
        assert "Changed since: checker." in call(*command, "--url", server.base).stderr
        (tmp_path / "checks.py").write_text(CHECKS)
        assert call(*command, "--url", moved.base).exit_code == 0
        assert (len(server.sent), moved.sent) == (asked, [])


def test_the_table_is_about_the_cases_that_were_asked_for(own: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text(own.read_text() + json.dumps({"task": TASK, "id": "again"}) + "\n")
    for path, runs in ((more, 2), (own, 1)):
        assert call(path, "--engine", "fake", "--out", tmp_path / "out").exit_code == 0
        table = json.loads((tmp_path / "out" / "table.json").read_text())
        assert [row["runs"] for row in table["rows"] if row["part"] == "all"] == [runs, runs]


def test_the_reasons_of_failed_runs_are_told(tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text(json.dumps({"task": "Use 9, 8, 7 to make 24."}) + "\n")
    done = call(cases, "--engine", "fake", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "2 runs failed (UnsupportedTask 2), the first one: --engine fake replays recorded runs" in done.stderr


def test_a_twin_on_another_server_and_limits_of_both(own: Path, tmp_path: Path) -> None:
    with served(says('{"answer": "25 + 7 * 3"}')) as server, served(says('{"answer": "46"}')) as other:
        options = ("--engine", "openai", "--url", server.base, "--model", "one", "--dialect", "json")
        options += ("--twin", "other", "--twin-url", other.base, "--chain-tokens", 50, "--plan-tokens", 40)
        assert call(own, *options, "--out", tmp_path / "out").exit_code == 0
        assert {(body["model"], body["max_tokens"]) for body in server.sent} == {("one", 40)}
        assert {body["model"] for body in other.sent} == {"other"}
        assert other.sent[0]["max_tokens"] == 50
    assert {line["method"]: line["correct"] for line in written(tmp_path / "out")} == {
        "sequential": False,
        "interleaved": True,
    }
