"""Bad input: invalid traces are counted with a reason, and the others are kept."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from sprint_agents.testing import FakeEngine
from sprint_finetune.curation import (
    CurationSettings,
    Extractor,
    LLMExtractor,
    Reading,
    Report,
    RuleExtractor,
    Trace,
    curate,
    from_jsonl,
)
from sprint_finetune.curation.answers import stated_answer
from sprint_finetune.curation.packing import pack
from sprint_finetune.curation.records import Dag, Extraction, Step
from sprint_finetune.curation.reformatting import trajectory_text
from sprint_finetune.curation.rules.outcome import states_answer
from sprint_finetune.curation.rules.rule_extractor import read_steps
from sprint_finetune.curation.samples import lines_changed
from sprint_finetune.curation.violations import violations_of

MEGABYTE = 1_000_000


@pytest.fixture
def run(tmp_path: Path, verifier):
    def call(source, extractor: Extractor | None = None) -> Report:
        given = {"extractor": extractor or RuleExtractor(), "settings": CurationSettings(), "verifier": verifier}
        return asyncio.run(curate(source, tmp_path / "out", **given))

    return call


def reasons(report: Report) -> dict[tuple[str, str], int]:
    return {(count.stage, count.reason): count.count for count in report.rejected}


def test_bad_lines_of_a_file_are_counted_and_the_good_one_is_kept(run, tmp_path: Path, make_trace) -> None:
    good = make_trace("good").model_dump()
    lines = [
        {**good, "id": "empty", "trace": " \n "},
        {**good, "id": "silent", "trace": "Two cases.\nCase 1: no.\nCase 2: no."},
        {**good, "id": "long", "trace": "7" * MEGABYTE},
        {"question": "How many?", "trace": "12"},
        good,
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{no JSON\n")
    report = run(from_jsonl(path))
    assert report.samples == 1
    assert reasons(report) == {
        ("read", "empty_trace"): 1,
        ("read", "too_long"): 1,
        ("read", "missing_field"): 1,
        ("read", "unreadable"): 1,
        ("answer", "no_answer"): 1,
    }


class Told:
    """A third-party extractor that returns preset results, even wrong ones."""

    name = "told"

    def __init__(self, *steps: Step, parents: tuple[tuple[int, ...], ...] = ()) -> None:
        self._steps = steps
        self._parents = parents

    async def steps(self, trace: Trace) -> Extraction:
        return Extraction(id=trace.id, steps=self._steps)

    async def dag(self, trace: Trace, extraction: Extraction) -> Dag:
        return Dag(id=trace.id, parents=self._parents)


WHOLE = (Step(number=1, plan=((1, 7),)), Step(number=2, plan=((8, 13),)))


@pytest.mark.parametrize(
    ("extractor", "reason"),
    [
        (Told(Step(number=1, plan=((1, 9),)), Step(number=2, plan=((8, 13),))), ("steps", "overlap")),
        (Told(WHOLE[0]), ("steps", "uncovered")),
        (Told(Step(number=1, plan=((1, 99),))), ("steps", "out_of_range")),
        (Told(), ("steps", "uncovered")),
        (Told(*WHOLE, parents=((2,), (1,))), ("dag", "cycle")),
        (Told(*WHOLE, parents=((),)), ("dag", "unknown_step")),
        (Told(*WHOLE, parents=((), (7,))), ("dag", "unknown_step")),
        (Told(*WHOLE, parents=((2,), ())), ("dag", "later_parent")),
    ],
)
def test_what_any_extractor_says_is_checked(run, make_trace, extractor: Extractor, reason: tuple[str, str]) -> None:
    assert reasons(run([make_trace("t")], extractor)) == {reason: 1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I would rather not.", "not_json"),
        ('{"steps": [{"plan": [[1', "not_json"),
        (
            json.dumps(
                {
                    "steps": [
                        {"plan": [span], "execution": [], "comments": [], "description": "", "prompt": ""}
                        for span in ([1, 9], [8, 13])
                    ]
                }
            ),
            "overlap",
        ),
        ("{" * 50_000, "not_json"),
    ],
)
def test_what_a_model_says_is_checked(run, make_trace, answer: str, reason: str) -> None:
    assert reasons(run([make_trace("t")], LLMExtractor(FakeEngine(answer)))) == {("steps", reason): 1}


def processed(text: str) -> None:
    """Take a trace through extraction, packing, measures and writing."""
    trace = Trace(id="t", problem="How many?", trace=text, answer="12")
    packed = pack(*read_steps(trace))
    violations_of(trace, packed)
    assert not lines_changed(trace, packed, trajectory_text(trace, packed, "12"))


@pytest.mark.parametrize("answer", ["9" * 5000, f"{' ' * 50_000}+ 7", "\u00b2", "\u0663"])
def test_an_answer_that_no_line_states(answer: str) -> None:
    assert states_answer(["We get 6 + 6 = 12.", "So 12."], answer) == [False, False]


@pytest.mark.parametrize(
    "piece", ["7 ", "{", "(", "x^(", "so ", "- ", "answer is ", "\\boxed{", "a  ", "n" * 9, ".", "\\"]
)
def test_a_line_as_long_as_a_trace_may_be_is_read(piece: str) -> None:
    """A pattern that backtracks over a line would take forever."""
    line = piece * (Reading().longest // len(piece))
    processed(f"Two cases.\n{line}\nCase 1: {line}\nThat's it.\nDone.\nCase 2: no.\nThat's it.\nDone.\nSo 12.")
    stated_answer(Trace(id="t", problem="?", trace=f"The answer is {line}{' ' * 50_000}x", answer="12"))


def test_a_long_trace_is_read_if_the_reader_allows_it(tmp_path: Path, make_trace) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(make_trace("t", trace="7" * MEGABYTE).model_dump_json())
    (trace,) = from_jsonl(path, reading=Reading(longest=2 * MEGABYTE))
    assert isinstance(trace, Trace)


def table(lines: int) -> str:
    parts = lines // 10
    rows = "\n".join(f" {n} 3 : {n + 3} {n - 3 if n > 3 else 'x'} {3 * n} x 46 no" for n in range(2, 10))
    return "Openings:\n" + "".join(f"{n} + 1 = {n + 1} left {n + 1} 3 for 46\n{rows}\nnone\n" for n in range(parts))


def cases(lines: int) -> str:
    return "Cases:\n" + "".join(
        f"Case {n}: n is {n}.\nI list.\nThere are {17 * n}.\nIt's done.\n" for n in range(lines // 4)
    )


def alternatives(lines: int) -> str:
    return "Start.\n" + "".join(f"Alternatively, try {n}.\nThen {n} * 2 = {2 * n}.\n" for n in range(lines // 2))


def plain(lines: int) -> str:
    return "".join(f"Side {n}: {n}.\n" for n in range(lines))


def loop(lines: int) -> str:
    return "Two cases.\n" + "Case 1:\n" * lines


def calls_in(text: str) -> int:
    """Count the Python and C function calls that a trace costs, which measures work without a clock."""
    calls: Counter[str] = Counter()

    def count(frame: object, event: str, argument: object) -> None:
        calls[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        processed(text)
    finally:
        sys.setprofile(before)
    return calls["call"] + calls["c_call"]


@pytest.mark.parametrize("text", [table, cases, alternatives, plain, loop])
def test_the_work_grows_with_the_lines_and_not_with_their_square(text) -> None:
    assert calls_in(text(2_000)) < 2.6 * calls_in(text(1_000))
