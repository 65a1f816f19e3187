"""`sprint view`: files of runs and journals become one page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Budget, Sprint
from sprint_agents.errors import BudgetExceeded
from sprint_agents.testing import FakeEngine, run_virtual

PLAN = "<Plan_1>\n<prompt_1.1>6*7</prompt_1.1>\n<prompt_1.2>100/4</prompt_1.2>\n</Plan_1>"
REPLIES = {"": PLAN, "<execution_": "42", "</Execution_1>": r"<Final_answer>\boxed{67}</Final_answer>"}


def sprint(**options: Any) -> Sprint:
    return Sprint(FakeEngine(REPLIES), **options)


def runs_in(page: Path) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="runs">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_runs_and_journals_are_on_one_page(call, tmp_path: Path) -> None:
    journal, lines, page = tmp_path / "journal.jsonl", tmp_path / "runs.jsonl", tmp_path / "page.html"
    first = run_virtual(sprint().run("first", journal=journal))
    others = [run_virtual(sprint().run(task)) for task in ("second", "third")]
    lines.write_text("\n".join(run.model_dump_json() for run in others) + "\n\n")
    done = call("view", journal, lines, "-o", page)
    assert done.exit_code == 0
    assert done.stdout == f"{page}: 3 runs\n"
    shown = runs_in(page)
    assert [run["task"] for run in shown] == ["first", "second", "third"]
    assert shown[0]["id"] == first.id
    assert shown[0]["answer"] == first.answer
    assert shown[0]["stages"][0]["executions"][1]["plan_tokens"] > 0
    assert shown[0]["usage"]["sequential_requests"] == list(first.usage.sequential_requests)


def test_the_journal_of_a_run_that_was_stopped_shows_what_had_finished(call, tmp_path: Path) -> None:
    journal, page = tmp_path / "journal.jsonl", tmp_path / "page.html"
    with pytest.raises(BudgetExceeded):
        run_virtual(sprint(budget=Budget(calls=2)).run("question", journal=journal))
    assert call("view", journal, "--out", page).exit_code == 0
    (run,) = runs_in(page)
    (stage,) = run["stages"]
    assert stage["interrupted"]
    assert stage["plan"].startswith("<Plan_1>\n<prompt_1.1>6*7")
    assert len(stage["executions"]) == 1
    assert len(stage["calls"]) == 1


def test_a_file_that_holds_no_runs_is_refused(call, tmp_path: Path) -> None:
    other, page = tmp_path / "other.jsonl", tmp_path / "page.html"
    other.write_text('{"name": "no run"}\n')
    done = call("view", other, "-o", page)
    assert done.exit_code == 2
    assert "line 1 is not a run: id: Field required" in done.stderr
    assert not page.exists()
    assert "cannot be read" in call("view", tmp_path / "missing.jsonl", "-o", page).stderr
    (tmp_path / "good.jsonl").write_text(run_virtual(sprint().run("task")).model_dump_json())
    assert "cannot be written" in call("view", tmp_path / "good.jsonl", "-o", tmp_path / "none" / "page.html").stderr
