"""`sprint view`: files of runs and journals become one page."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sprint_agents import Budget, Limits, Sprint
from sprint_agents.cli.live_view import live_page
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


def test_only_line_feeds_end_a_run(call, tmp_path: Path) -> None:
    lines, page = tmp_path / "runs.jsonl", tmp_path / "page.html"
    tasks = ["a\u2028b\u2029c\x85d", "second"]
    lines.write_text("".join(run_virtual(sprint().run(task)).model_dump_json() + "\n" for task in tasks))
    assert call("view", lines, "-o", page).exit_code == 0
    assert [run["task"] for run in runs_in(page)] == tasks


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


async def answers(app: Any, *paths: str, **headers: str) -> list[httpx2.Response]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as client:
        return [await client.get(path, headers=headers) for path in paths]


def test_a_served_page_follows_its_files(tmp_path: Path) -> None:
    journal, lines = tmp_path / "journal.jsonl", tmp_path / "runs.jsonl"
    app = live_page([journal, lines])
    page, nothing = asyncio.run(answers(app, "/", "/runs.json"))
    assert 'data-live="runs.json"' in page.text
    assert "connect-src 'self'" in page.text
    assert nothing.json() == []  # there are no files yet
    run_virtual(sprint().run("first", journal=journal))
    whole = journal.read_bytes()
    journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    (begun,) = asyncio.run(answers(app, "/runs.json"))
    assert [run["task"] for run in begun.json()] == ["first"]
    (same,) = asyncio.run(answers(app, "/runs.json", **{"if-none-match": begun.headers["etag"]}))
    assert (same.status_code, same.content) == (304, b"")
    journal.write_bytes(whole)
    lines.write_text(run_virtual(sprint().run("second")).model_dump_json() + "\n")
    (more,) = asyncio.run(answers(app, "/runs.json", **{"if-none-match": begun.headers["etag"]}))
    assert [run["answer"] for run in more.json()] == ["67", "67"]


def test_a_line_that_is_being_written_is_read_later(tmp_path: Path) -> None:
    lines = tmp_path / "runs.jsonl"
    lines.write_text('{"id": "a", "ta')
    (unreadable,) = asyncio.run(answers(live_page([lines]), "/runs.json"))
    assert unreadable.status_code == 503
    assert "is not a run" in unreadable.text


def test_a_served_page_is_for_this_machine_alone(tmp_path: Path) -> None:
    (refused,) = asyncio.run(answers(live_page([tmp_path / "runs.jsonl"]), "/", host="evil.example"))
    assert refused.status_code == 400


def test_open_stages_of_a_sprint_within_an_execution_are_shown(call, tmp_path: Path) -> None:
    journal, page = tmp_path / "journal.jsonl", tmp_path / "page.html"
    run_virtual(sprint(executor=sprint(), limits=Limits(concurrency=1)).run("question", journal=journal))
    # The process was killed after the header, both plans, and an execution of the inner one.
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:4]))
    assert call("view", journal, "--out", page).exit_code == 0
    (run,) = runs_in(page)
    (stage,) = run["stages"]
    (execution,) = stage["executions"]
    assert (execution["number"], execution["failure"]["type"]) == (1, "Superseded")
    (begun,) = execution["stages"]
    assert begun["interrupted"]
    assert begun["plan"].startswith("<Plan_1>")
    assert [inner["prompt"] for inner in begun["executions"]] == ["6*7"]
    assert execution["usage"]["generated_tokens"] == begun["usage"]["total"]["generated_tokens"] > 0
