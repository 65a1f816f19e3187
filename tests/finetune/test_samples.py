"""Which calls of which problems a step of training reads."""

import random

import pytest

from sprint_finetune.samples import IGNORED, batches, calls_of_problem, drills
from sprint_finetune.tokenizer import build_tokenizer
from sprint_finetune.train import FAMILIES

STEP = {"seed": 0, "step": 7, "problems_per_step": 4, "tokens_per_batch": 6_144, "families": FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_mix_reads_the_same_problem(family):
    questions = {
        calls_of_problem(random.Random(1), seed="1", mix=mix, family=family)[0].pieces[0].text
        for mix in ("chains", "roles")
    }
    assert len(questions) == 1


def test_more_searches_than_there_would_be_need_a_second_stage():
    firsts = (calls_of_problem(random.Random(seed), seed=str(seed), mix="chains")[0] for seed in range(200))
    second = sum("Products and quotients next" in "".join(piece.text for piece in call.pieces) for call in firsts)
    assert 40 < second < 100


@pytest.mark.parametrize(
    ("family", "roles", "short"),
    [("countdown", ["executor"] * 2, 2), ("arithmetic", ["planner"] * 2, 1), ("multiplication", ["planner"], 1)],
)
def test_drills_are_calls_of_other_problems_and_the_short_ones_learn_only_their_end(family, roles, short):
    calls = drills(random.Random(0), seed="0", family=family)
    assert [call.role for call in calls] == roles
    assert all(call.pieces[-1].learned for call in calls)
    for call in calls[:short]:
        assert [piece.learned for piece in call.pieces] == [False] * (len(call.pieces) - 1) + [True]


def test_batches_are_a_function_of_seed_and_step():
    tokenizer = build_tokenizer()
    first, again = ([*batches(tokenizer, mix="roles", **STEP)] for _ in range(2))
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(first, again, strict=True))
    for ids, labels in first:
        learned = labels != IGNORED
        assert (ids[learned] == labels[learned]).all()
