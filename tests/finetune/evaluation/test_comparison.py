"""Evaluation: every method solves every case exactly once, despite interruptions."""

import asyncio
import itertools

import pytest

from sprint_agents.errors import ConfigurationError
from sprint_agents.testing import FakeEngine
from sprint_finetune.evaluation import Case, Method, OutcomeFile, compare, held_out, load_cases, summarise
from sprint_finetune.evaluation.plots import draw
from sprint_finetune.evaluation.summary import markdown, wilson
from sprint_finetune.nano.countdown import problems

PLAN = "<Plan_1>\n<prompt_1.1>left</prompt_1.1>\n<prompt_1.2>right</prompt_1.2>\n</Plan_"
ANSWER = "<Final_answer>\n\\boxed{2*(3+4)}\n</Final_answer>"
CASES = [Case(id="a", task="Use 4, 3, 2 to make 14."), Case(id="b", task="Use 9, 8, 7 to make 24.")]


def respond(prompt):
    if "<think>" in prompt.text:
        return "2 3 4 and so on, at some length, until </think>\n" + ANSWER
    if "</Execution_1>" in prompt.text:
        return ANSWER
    return "a few words</execution_" if "<execution_" in prompt.text else PLAN


def methods(engine):
    return [
        Method(name="twin", engine=engine, policy="sequential"),
        Method(name="sprint", engine=engine, policy="interleaved"),
    ]


def evaluate(path, *, cases=CASES, seeds=(0, 1), stop_after=None, concurrency=1):
    outcomes = []

    def hear(outcome):
        outcomes.append(outcome)
        if len(outcomes) == stop_after:
            raise KeyboardInterrupt

    async def main():
        async with FakeEngine(respond) as engine:
            await compare(methods(engine), cases, seeds=seeds, out=out, on_outcome=hear, concurrency=concurrency)

    with OutcomeFile(path) as out:
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            assert stop_after
    return outcomes


def test_every_case_is_solved_by_every_method_with_every_seed(tmp_path):
    outcomes = evaluate(tmp_path / "out.jsonl")
    expected = itertools.product(("twin", "sprint"), ("a", "b"), (0, 1))
    assert sorted(outcome.key for outcome in outcomes) == sorted(expected)
    assert {outcome.case: outcome.correct for outcome in outcomes} == {"a": True, "b": False}


def test_runs_at_once_come_to_the_same_but_are_not_timed(tmp_path):
    evaluate(tmp_path / "alone.jsonl")
    outcomes = evaluate(tmp_path / "together.jsonl", concurrency=3)
    with OutcomeFile(tmp_path / "alone.jsonl") as out:
        assert {o.key: o for o in outcomes} == {
            key: outcome.model_copy(update={"seconds": None}) for key, outcome in out.outcomes.items()
        }
    with OutcomeFile(tmp_path / "together.jsonl") as out:
        rows = summarise(out, twin="twin")
    assert all(row.seconds is None and row.speed_up is None for row in rows)
    assert markdown(rows).splitlines()[2].endswith("| - | - |")


@pytest.mark.parametrize("cut", [0, 25])
def test_an_interrupted_evaluation_goes_on_where_it_was(tmp_path, cut):
    path = tmp_path / "out.jsonl"
    before = evaluate(path, stop_after=3)
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])  # killed while writing a line
    after = evaluate(path)
    kept = before[:-1] if cut else before
    keys = [outcome.key for outcome in (*kept, *after)]
    assert len(keys) == len(set(keys)) == 8
    assert len(path.read_text().splitlines()) == 8


def test_a_line_that_is_no_outcome_is_named(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text('{"method": 1}\n{}\n')
    with pytest.raises(ConfigurationError, match="line 1 is not an outcome"), OutcomeFile(path):
        pass


def test_the_summary_compares_with_the_twin(tmp_path):
    path = tmp_path / "out.jsonl"
    evaluate(path, cases=[*CASES, Case(id="c", task="Use 7, 5, 2 to make 70.")])
    with OutcomeFile(path) as out:
        rows = summarise(out, twin="twin")
    twin, sprint = (row for row in rows if row.part == "all")
    assert (twin.method, twin.strict_ratio, twin.speed_up, twin.serial_collapse) == ("twin", 1.0, 1.0, 1.0)
    assert twin.runs == sprint.runs == 6
    assert twin.accuracy == sprint.accuracy == pytest.approx(1 / 3)
    assert sprint.serial_collapse == 0
    assert sprint.width == 2
    assert 0 < sprint.parallel_share < 1
    assert sum(row.runs for row in rows if row.method == "sprint" and row.part != "all") == 6
    assert len(markdown(rows).splitlines()) == 2 + len(rows)


def test_seeds_of_a_case_do_not_narrow_the_interval(tmp_path):
    bounds = []
    for seeds in ((0,), (0, 1, 2)):
        evaluate(tmp_path / f"{len(seeds)}.jsonl", seeds=seeds)
        with OutcomeFile(tmp_path / f"{len(seeds)}.jsonl") as out:
            bounds.append([(row.low, row.high) for row in summarise(out, twin="twin")])
    assert bounds[0] == bounds[1]


def test_an_interval_holds_its_share_at_both_ends():
    """The share is inside the interval to the last bit, because a plot cannot draw a negative error bar."""
    for total in range(1, 501):
        assert wilson(0, total)[0] == 0
        assert wilson(total, total)[1] == 1


def test_the_plots_are_a_file(tmp_path):
    pytest.importorskip("matplotlib")
    evaluate(tmp_path / "out.jsonl")
    with OutcomeFile(tmp_path / "out.jsonl") as out:
        draw(summarise(out, twin="twin"), tmp_path / "plot.svg", title="two cases")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_stages_that_gain_nothing_are_spurious(tmp_path):
    def same(prompt):
        return respond(prompt).replace("right", "LEFT ")

    async def main():
        async with FakeEngine(same) as engine:
            await compare(methods(engine)[1:], CASES[:1], seeds=(0,), out=out)

    with OutcomeFile(tmp_path / "out.jsonl") as out:
        asyncio.run(main())
    (outcome,) = out.outcomes.values()
    assert outcome.spurious_stages == outcome.parallel_stages == 1


def test_a_run_that_fails_is_an_outcome(tmp_path):
    async def main():
        async with FakeEngine(lambda prompt: "<Final_answer></Final_answer>") as engine:
            await compare(methods(engine)[:1], CASES[:1], seeds=(0,), out=out)

    with OutcomeFile(tmp_path / "out.jsonl") as out:
        asyncio.run(main())
    (outcome,) = out.outcomes.values()
    assert (outcome.error, outcome.correct) == ("NoAnswer", False)


def test_public_formats_are_told_by_their_fields(tmp_path):
    math = tmp_path / "math.jsonl"
    math.write_text('{"problem": "What is 1+1?", "answer": "2", "unique_id": "test/1"}\n')
    countdown = tmp_path / "countdown.jsonl"
    countdown.write_text('{"nums": [3, 50, 7, 25], "target": 79}\n\n{"nums": [1, 2, 3], "target": 6}\n')
    gpqa = tmp_path / "gpqa.csv"
    gpqa.write_text(
        "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
        'rec1,"Which, then?",the right one,w1,w2,w3\n'
    )
    assert load_cases(math) == [Case(id="test/1", task="What is 1+1?", answer="2")]
    first, second = load_cases(countdown)
    assert first.check("50+25+(7-3)") is True
    assert (second.id, second.task) == ("countdown-2", "Use 3, 2, 1 to make 6.")
    (choice,) = load_cases(gpqa)
    assert f"{choice.answer}) the right one" in choice.task
    assert load_cases(gpqa) == [choice]
    assert len(load_cases(countdown, limit=1)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "?"}\n', "needs the fields of a known format"),
        ("nonsense\n", "line-1: this is not valid JSON"),
        ("[1]\n", "not a JSON object"),
        ("", "has no cases"),
    ],
)
def test_a_file_of_no_known_format_is_refused(tmp_path, text, message):
    path = tmp_path / "cases.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_cases(path)


def test_held_out_cases_are_the_generators_first_ones():
    def draw():
        return held_out((task for task, _ in problems(seed=0, split="held_out")), name="countdown", count=3)

    cases = draw()
    assert [case.id for case in cases] == ["countdown-1", "countdown-2", "countdown-3"]
    assert cases == draw()
