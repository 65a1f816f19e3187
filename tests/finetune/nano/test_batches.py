"""The calls and problems that a training step reads."""

import random
import re
from typing import get_args

import pytest

from sprint_agents import Trajectory
from sprint_finetune.nano import multiplication
from sprint_finetune.nano.batches import Mix, batches, calls_of_problem, drills, encode
from sprint_finetune.nano.pretrain import FAMILIES
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import executors, planner

STEP = {"seed": 0, "step": 7, "problems_per_step": 4, "tokens_per_batch": 6_144, "families": FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_mix_reads_the_same_problem(family):
    questions = {
        calls_of_problem(random.Random(1), seed="1", mix=mix, family=family)[0][0].pieces[0].text
        for mix in get_args(Mix)
    }
    assert len(questions) == 1


def test_the_planner_of_a_settled_search_reads_nothing_after_the_first_find():
    planned = [calls_of_problem(random.Random(n), seed=str(n), mix="settled")[0][0] for n in range(12)]
    texts = ["".join(piece.text for piece in call.pieces) for call in planned]
    found = [text for text in texts if "answer=" in text]
    assert found
    for text in found:
        read = text.partition("answer=")[2]
        assert "<execution_" not in read
        assert "<Final_answer>" in read


def test_the_endings_of_stages_are_those_of_runs():
    planned = [calls_of_problem(random.Random(n), seed=str(n), mix="endings")[0][0] for n in range(40)]
    texts = ["".join(piece.text for piece in call.pieces) for call in planned]
    cut = [bool(Trajectory.from_text(text).diagnostics) for text in texts]  # an execution is missing
    later = ["<execution_" in text.partition("answer=")[2] for text in texts]  # the find is not the last one
    for kind in ((True, False), (False, True), (True, True)):
        assert 3 < [*zip(cut, later, strict=True)].count(kind) < 25


def test_more_answers_than_there_would_be_are_pairs_of_pairs():
    calls = (calls_of_problem(random.Random(seed), seed=str(seed), mix="chains")[0][0] for seed in range(200))
    assert 60 < sum(").(" in re.sub("[-+*/]", ".", call.pieces[-1].text) for call in calls) < 120


def test_more_searches_than_there_would_be_need_a_second_stage():
    firsts = (calls_of_problem(random.Random(seed), seed=str(seed), mix="chains")[0][0] for seed in range(200))
    second = sum("Products and quotients next" in "".join(piece.text for piece in call.pieces) for call in firsts)
    assert 40 < second < 100


def test_the_drills_of_a_search_are_two_pairings_and_two_verdicts():
    calls = [call for (call,) in drills(random.Random(0), seed="0", family="countdown")]
    assert [call.role for call in calls] == ["planner", "planner", "executor", "executor"]
    for call in calls:
        assert [piece.learned for piece in call.pieces] == [False] * (len(call.pieces) - 1) + [True]
    numbers = re.findall(r"\d+", calls[1].pieces[0].text)[:-1]
    assert len(set(numbers)) < len(numbers) == 4


def test_the_drill_of_multiplication_is_a_first_plan():
    ((call,),) = drills(random.Random(0), seed="0", family="multiplication")
    assert [piece.learned for piece in call.pieces] == [False, True]


def test_the_drills_of_arithmetic_are_its_longest_problems_with_all_later_executors():
    for planned, *later in drills(random.Random(0), seed="0", family="arithmetic"):
        assert planned.role == "planner"
        prompts = re.findall(r"<prompt_(\d)", "".join(piece.text for piece in planned.pieces))
        assert max(prompts) == "3"
        assert len(later) == len([stage for stage in prompts if stage != "1"])
        assert {call.role for call in later} == {"executor"}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_in_one_trie_begins_alike(family):
    for first, *others in calls_of_problem(random.Random(1), seed="1", mix="roles", family=family):
        assert {call.pieces[0] for call in others} <= {first.pieces[0]}


def test_batches_are_a_function_of_seed_and_step():
    tokenizer = build_tokenizer()
    first, again, other = (
        [
            {name: values.tolist() for name, values in part.items()}
            for part in batches(tokenizer, mix="roles", **STEP | {"step": step})
        ]
        for step in (7, 7, 8)
    )
    assert first == again != other


def test_only_rows_with_branches_are_masked():
    tokenizer = build_tokenizer()
    parts = [*batches(tokenizer, mix="roles", **STEP | {"families": {"arithmetic": 1.0}})]
    masked = [part for part in parts if "ends" in part]
    assert 0 < len(masked) < len(parts)
    for part in masked:
        assert part["input_ids"].numel() <= STEP["tokens_per_batch"]
        assert (part["positions"].diff() < 0).any()


def test_a_planners_path_rehearses_the_executions_that_it_joins():
    tokenizer = build_tokenizer()
    work = next(multiplication.problems(seed=0, split="train"))
    plain, rehearsed = (encode(planner(work, rehearsal=share), tokenizer) for share in (0.0, 0.2))
    assert plain.ids == rehearsed.ids
    more = [
        token
        for token, before, after in zip(plain.ids, plain.learned, rehearsed.learned, strict=True)
        if not before and after
    ]
    executions = [piece.text for call in executors(work) for piece in call.pieces if piece.learned]
    assert tokenizer.decode(more) == "".join(executions)
    assert set(rehearsed.learned) == {0, 0.2, 1}


def test_an_execution_with_a_slip_is_not_rehearsed():
    work = next(multiplication.problems(seed=0, split="train", slips=1.0))
    assert planner(work, rehearsal=0.2).pieces[3].learned == 0
