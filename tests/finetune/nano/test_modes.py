"""Each mode's text is what a run would write, and its lengths and seconds are those of that run."""

import asyncio
import itertools
import random
import re
from functools import lru_cache

import pytest

from sprint_agents import Sprint, Trajectory
from sprint_agents.dialects.tags.dialect import TagDialect
from sprint_agents.testing import FakeEngine, run_virtual
from sprint_agents.testing.engine import Latency
from sprint_finetune.costs import CostModel, RunShape
from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.batches import encode
from sprint_finetune.nano.countdown import problems, solution_of
from sprint_finetune.nano.countdown_guesses import guess, solve, wrong
from sprint_finetune.nano.export import NANO
from sprint_finetune.nano.modes import chain_shape, guessed, in_quicker_mode, settled, shape_of
from sprint_finetune.nano.oracle import FEW, countdown_seconds, few_at_a_time, in_order, right_at_once, rows
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import executors, in_chain, planner

STOP = re.compile("</Plan_|</Final_answer>|</execution_")
LARGE = NANO.model_copy(update={"stages": 12, "plan_tokens": 4000, "execution_tokens": 4000})


def searches(count: int, **options: object):
    drawn = problems(seed=5, split="train", **options)
    return [solution_of(*found) for found in itertools.islice(drawn, count)]


@lru_cache
def count(text: str) -> int:
    return len(asyncio.run(FakeEngine("").encode(TagDialect.of(None).mark(text))))


def run_of(work, **options):
    """Run a solution on an engine that writes what its calls say, one token each millisecond."""
    texts = ["".join(piece.text for piece in call.pieces) for call in (planner(work), *executors(work))]

    def respond(prompt):
        rest = next(text[len(prompt.text) :] for text in texts if text.startswith(prompt.text))
        return rest[: STOP.search(rest).end()]

    engine = FakeEngine(respond, manifest=LARGE, latency=Latency(token=0.001))
    return run_virtual(Sprint(engine, **options).run(work.task.prompt))


def modes_of(work):
    rng = random.Random(0)
    yield in_chain(work)
    yield work
    yield settled(work)
    if work.solved:
        yield guessed(work, rng, misses=0, found=True)
        yield guessed(work, rng, misses=2, found=True)
    yield settled(guessed(work, rng, misses=3, found=False))


def test_a_guess_is_right_or_a_slip_that_only_its_verdict_teaches():
    rng = random.Random(1)
    for work in searches(20):
        numbers, target = sorted(work.task.numbers), work.task.target
        right, miss = solve(numbers, target, rng), wrong(numbers, target, rng)
        assert right is not None
        assert work.task.check(right.expression)
        assert not work.task.check(miss.expression)
        assert sorted(map(int, re.findall(r"\d+", miss.expression))) == numbers
        assert [piece.learned for piece in guess(right, target)] == [True]
        assert [(piece.learned, piece.text[-5:]) for piece in guess(miss, target)][1] == (True, " no\n")


def test_a_problem_without_a_solution_has_no_right_guess():
    (work,) = searches(1, unsolvable=1.0)
    assert solve(work.task.numbers, work.task.target, random.Random(0)) is None
    with pytest.raises(ValueError, match="no solution, so no guess is right"):
        guessed(work, random.Random(0), misses=0, found=True)


@pytest.mark.parametrize("work", searches(4, unsolvable=0.3), ids=lambda work: work.task.prompt)
def test_every_mode_is_a_clean_trajectory_that_a_run_writes_token_for_token(work):
    for mode in modes_of(work):
        text = "".join(piece.text for piece in planner(mode).pieces)
        cut = any(stage.joined is not None for stage in mode.stages)
        faults = {fault.kind for fault in Trajectory.from_text(text).diagnostics}
        assert faults <= ({"missing_execution"} if cut else set())
        run = run_of(mode) if cut else run_of(mode, settles=False)
        assert run.transcript == text
        assert run.verified is work.solved


def test_the_lengths_of_a_solution_are_those_of_its_run():
    for work in searches(4):
        for run, ends in ((run_of(work, settles=False), "all"), (run_of(settled(work)), "in order")):
            mine, its = shape_of(work, count, ends=ends), RunShape.of(run)
            assert its is not None
            assert [stage.tokens for stage in mine.stages] == [stage.tokens for stage in its.stages]
            for ours, theirs in zip(mine.stages, its.stages, strict=True):
                for one, other in zip(ours.branches, theirs.branches, strict=True):
                    assert one.plan_tokens == other.plan_tokens
                    assert other.joins or not one.joins  # a later one may have ended before the find
            assert run.usage.seconds == pytest.approx(0.001 * CostModel(step={1: 1.0}).seconds(mine), rel=0.02)


def test_a_bound_on_executions_at_once_delays_those_that_wait():
    (work,) = searches(1)
    free, bound = (shape_of(work, count, at_once=at_once, ends="all") for at_once in (None, 2))
    costs = CostModel(step={1: 1.0})
    assert costs.seconds(bound) > costs.seconds(free)
    assert bound.total_tokens == free.total_tokens


def test_the_pieces_of_each_mode_encode_as_the_whole_text_does():
    tokenizer = build_tokenizer()
    for work in searches(3):
        for mode in modes_of(work):
            for call in (planner(mode), *executors(mode)):
                whole = "".join(piece.text for piece in call.pieces)
                assert encode(call, tokenizer).ids == tokenizer.encode(whole, add_special_tokens=False)


@pytest.mark.parametrize("family", [arithmetic, multiplication])
def test_other_problems_are_in_the_mode_that_takes_fewer_seconds(family):
    narrow = CostModel(step={1: 1.0, 2: 4.0})  # an engine on which nothing is gained side by side
    wide = CostModel(step={1: 1.0})
    rng = random.Random(0)
    for work in itertools.islice(family.problems(seed=1, split="train"), 3):
        assert in_quicker_mode(work, rng, count, costs=narrow).stages == ()
        assert in_quicker_mode(work, rng, count, costs=wide) == work


def test_the_oracle_compares_modes_with_the_twin():
    works = searches(9, counts=(4,))
    costs = CostModel(step={1: 0.002, 12: 0.006})
    seconds = countdown_seconds(works, count, [1.0, 0.0], costs)
    assert seconds["twin: the chain"] == [costs.seconds(chain_shape(work, count)) for work in works]
    never = countdown_seconds(works, count, [0.0, 0.0], costs)
    settled_plan = "guesses, then a settled plan"
    assert all(a < b for a, b in zip(seconds[settled_plan], never[settled_plan], strict=True))
    assert len([*rows(seconds)]) == 2 + len(seconds)


def test_the_oracle_searches_promising_openings_first_and_few_at_a_time():
    works = searches(20, counts=(4,))
    rng = random.Random(0)
    usual = [in_order(work, rng, promise=0) for work in works]
    for work, whole in zip(works, usual, strict=True):
        every = whole.stages[0].subtasks
        assert [one.prompt for one in every[: len(work.stages[0].subtasks)]] == [
            one.prompt for one in work.stages[0].subtasks
        ]
        assert whole.answer == work.answer
        stages = few_at_a_time(whole).stages
        assert [len(stage.subtasks) for stage in stages[:-1]] == [*FEW][: len(stages) - 1]
        assert [one for stage in stages for one in stage.subtasks] == [*every][
            : sum(len(one.subtasks) for one in stages)
        ]
        finds = [number for number, stage in enumerate(stages) if any(one.found for one in stage.subtasks)]
        assert finds == [len(stages) - 1]
    known = [in_order(work, rng, promise=50) for work in works]
    assert right_at_once(known) == 1 > right_at_once(usual)
    assert all(few_at_a_time(work).stages[0].joined == {1} for work in known)
