"""Evaluation: every method solves every case exactly once, despite interruptions."""

import asyncio
import itertools
import json
import os
import runpy
import subprocess
import sys

import pytest

from sprint_agents import Budget, Executor, Limits, Planner, Sampling, Sprint
from sprint_agents.dialects.tags.dialect import TagDialect
from sprint_agents.engine import Capabilities
from sprint_agents.errors import ConfigurationError, EngineUnavailable
from sprint_agents.hooks import Hooks
from sprint_agents.policies import self_consistency
from sprint_agents.testing import FakeEngine
from sprint_finetune.evaluation import Case, OutcomeFile, compare, draw, held_out, markdown, summarise
from sprint_finetune.nano.countdown import problems
from tests.reports.hostile import CHATML

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
    return {"twin": Sprint(engine, policy="sequential"), "sprint": Sprint(engine)}


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


def test_methods_take_turns_in_beginning(tmp_path):
    outcomes = evaluate(tmp_path / "out.jsonl", seeds=(0,))
    assert [outcome.method for outcome in outcomes] == ["twin", "sprint", "sprint", "twin"]


def test_runs_at_once_come_to_the_same_but_are_not_timed(tmp_path):
    alone = evaluate(tmp_path / "alone.jsonl")
    together = evaluate(tmp_path / "together.jsonl", concurrency=3)
    assert {outcome.seconds for outcome in together} == {None}
    # Which run finds another one's tokens in the cache depends on the order in which they end.
    depends = {"seconds": None, "recomputed_tokens": 0}
    assert {each.key: each.model_copy(update=depends) for each in together} == {
        each.key: each.model_copy(update=depends) for each in alone
    }
    with OutcomeFile(tmp_path / "together.jsonl") as out:
        rows = summarise(out, twin="twin")
    assert all(row.seconds is None and row.speed_up is None for row in rows)
    assert markdown(rows, twin="twin").splitlines()[2].endswith("| - |")


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
    assert (twin.difference, twin.p_value) == (0, 1)
    assert sprint.strict_ratio_low <= sprint.strict_ratio <= sprint.strict_ratio_high
    assert sprint.speed_up_low <= sprint.speed_up <= sprint.speed_up_high
    assert len(markdown(rows, twin="twin").splitlines()) == 2 + len(rows) + 1 + 2 + len(rows) // 2


def test_seeds_of_a_case_do_not_narrow_the_interval(tmp_path):
    bounds = []
    for seeds in ((0,), (0, 1, 2)):
        evaluate(tmp_path / f"{len(seeds)}.jsonl", seeds=seeds)
        with OutcomeFile(tmp_path / f"{len(seeds)}.jsonl") as out:
            bounds.append([(row.low, row.high) for row in summarise(out, twin="twin")])
    assert bounds[0] == bounds[1]


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
            await compare({"sprint": Sprint(engine)}, CASES[:1], out=out)

    with OutcomeFile(tmp_path / "out.jsonl") as out:
        asyncio.run(main())
    (outcome,) = out.outcomes.values()
    assert outcome.spurious_stages == outcome.parallel_stages == 1


def outcomes_of(path, engine, *, cases=CASES[:1], check=None, check_seconds=60, **settings):
    """Compare one method, and return the outcomes in order."""

    async def main():
        async with engine:
            sprint = Sprint(engine, **settings)
            await compare({"sprint": sprint}, cases, out=out, check=check, check_seconds=check_seconds)

    with OutcomeFile(path) as out:
        asyncio.run(main())
        return [*out.outcomes.values()]


def test_a_run_that_fails_is_an_outcome(tmp_path):
    (outcome,) = outcomes_of(tmp_path / "out.jsonl", FakeEngine(lambda prompt: "<Final_answer></Final_answer>"))
    assert (outcome.error, outcome.answer, outcome.correct) == ("NoAnswer", None, False)


def test_a_limit_of_tokens_per_run_is_held(tmp_path):
    (outcome,) = outcomes_of(tmp_path / "out.jsonl", FakeEngine(respond), budget=Budget(tokens=20))
    assert outcome.error == "BudgetExceeded"
    assert outcome.total_tokens <= 20


def test_an_unavailable_engine_is_asked_again_by_the_next_start(tmp_path):
    def fails(prompt):
        raise EngineUnavailable("gone")

    path = tmp_path / "out.jsonl"
    (outcome,) = outcomes_of(path, FakeEngine(fails))
    assert (outcome.error, outcome.is_no_fault) == ("EngineUnavailable", True)
    (outcome,) = outcomes_of(path, FakeEngine(respond))
    assert outcome.correct
    assert len(path.read_text().splitlines()) == 2
    engine = FakeEngine(respond)
    assert outcomes_of(path, engine) == [outcome]
    assert engine.requests == ()


def right(case, answer):
    return answer == case.row["expected"]


class Named(FakeEngine):
    name = "another"


def engine_like(kind=FakeEngine, *, weights="first"):
    return kind(respond, capabilities=Capabilities(chat=CHATML, weights=weights))


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"cases": [Case(id="a", task="Use 4, 3, 2 to make 10.")]}, "case"),
        ({"cases": [CASES[0].model_copy(update={"row": {"level": 5}})]}, "case"),
        ({"check": right}, "checker"),
        ({"check_seconds": 5}, "seconds of a check"),
        ({"dialect": "json"}, "dialect"),
        ({"engine": engine_like(Named)}, "executor's model, model"),
        ({"engine": engine_like(weights="trained again")}, "executor's weights, weights"),
        ({"policy": self_consistency(samples=2)}, "code of the policy under Python .*, policy"),
        ({"budget": Budget(tokens=500)}, "budget"),
        ({"limits": Limits(plan_tokens=7)}, "limits"),
        ({"sampling": Sampling(temperature=0.5)}, "sampling"),
        ({"failure": "fail_fast"}, "failure policy"),
        ({"settles": "the key"}, "what settles a stage"),
        ({"planner": Planner(str, attempts=3)}, "planner's options"),
        ({"executor": Executor(str, max_tokens=3)}, "executor's options"),
        ({"executor": lambda subtask: "42"}, "executor function, executor's .*"),
        ({"hooks": Hooks(before_request=print)}, "hooks"),
    ],
)
def test_outcomes_that_were_measured_otherwise_are_not_mixed(tmp_path, changed, names):
    path = tmp_path / "out.jsonl"
    begun = {"engine": engine_like(), "dialect": TagDialect.of(None)}
    (outcome,) = outcomes_of(path, **begun)
    asked = engine_like()
    assert outcomes_of(path, **{**begun, "engine": asked}) == [outcome]
    assert outcomes_of(path, **{**begun, "engine": engine_like(weights=None)}) == [outcome]  # the files are elsewhere
    with pytest.raises(
        ConfigurationError, match=rf"on case 'a' that was measured otherwise. Changed since: {names}\. "
    ):
        outcomes_of(path, **{**begun, "engine": asked, **changed})
    assert asked.requests == ()


PROGRAM = """
import asyncio, json
from sprint_agents import Sprint
from sprint_agents.testing import FakeEngine
from sprint_finetune.evaluation.setups import describe_check, describe_method

SMALL = {"one", "two", "three"}

def work(subtask):
    return subtask.prompt in SMALL

described = asyncio.run(describe_method(Sprint(FakeEngine(""), executor=work)))
described |= describe_check(None, seconds=60)
print(json.dumps(described))
"""


def test_what_an_outcome_depends_on_is_the_same_in_another_process(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == runpy.run_path(str(path))["described"]


async def right_later(case, answer):
    await asyncio.sleep(0)
    return right(case, answer)


@pytest.mark.parametrize("check", [right, right_later])
def test_a_check_reads_the_row_of_the_case(tmp_path, check):
    cases = [Case(id=name, task="go", row={"expected": name}) for name in ("42", "43")]
    engine = FakeEngine(lambda prompt: "<Final_answer>42</Final_answer>")
    outcomes = outcomes_of(tmp_path / "out.jsonl", engine, cases=cases, check=check)
    assert [(outcome.correct, outcome.check_error) for outcome in outcomes] == [(True, None), (False, None)]


def raises(case, answer):
    raise LookupError("no such row")


async def hangs(case, answer):
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("check", "error"),
    [
        (raises, "LookupError: no such row"),
        (hangs, "FunctionError: it took longer than 0.05 s"),
        (lambda case, answer: 0.5, "FunctionError: it returned 0.5, which is not True, False or None"),
        (lambda: True, "TypeError"),
    ],
)
def test_what_a_check_does_wrong_is_data(tmp_path, check, error):
    seconds = 0.05 if check is hangs else 60
    (outcome,) = outcomes_of(tmp_path / "out.jsonl", FakeEngine(respond), check=check, check_seconds=seconds)
    assert outcome.correct is None
    assert outcome.check_error.startswith(error)
    assert outcome.answer == "2*(3+4)"


def test_answers_of_other_types_are_checked_as_json(tmp_path):
    engine = FakeEngine(lambda prompt: "<Final_answer>[4, 2]</Final_answer>")
    seen = []
    check = lambda case, answer: seen.append(answer)  # noqa: E731
    outcomes_of(tmp_path / "out.jsonl", engine, check=check, planner=Planner(list[int]))
    assert seen == ["[4,2]"]


def test_held_out_cases_are_the_generators_first_ones():
    def draw():
        return held_out((task for task, _ in problems(seed=0, split="held_out")), name="countdown", count=3)

    cases = draw()
    assert [case.id for case in cases] == ["countdown-1", "countdown-2", "countdown-3"]
    assert cases == draw()
