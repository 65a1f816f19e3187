"""Rewards by the cost model, advantages within a group, and what each method learns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Sprint
from sprint_agents.rollouts import RolloutRecorder
from sprint_agents.testing import FakeEngine
from sprint_finetune.rl import Scored, advantages, rewards
from sprint_finetune.rl.scoring import to_learn


def rollout():
    recorder = RolloutRecorder(FakeEngine(r"<Final_answer>\boxed{42}</Final_answer>"))
    return recorder.rollout(Sprint(recorder).run_sync("What is 6*7?"))


ROLLOUT = rollout()
SCORED = st.builds(
    Scored,
    problem=st.just(0),
    member=st.integers(0, 9),
    right=st.booleans(),
    seconds=st.floats(0.01, 100),
    tokens=st.just(9),
    width=st.just(1),
    rollout=st.just(ROLLOUT),
)


@given(st.lists(SCORED, min_size=2, max_size=8), st.floats(0, 2))
def test_a_wrong_run_gets_nothing_and_a_quicker_right_one_never_less(group, rho):
    values = rewards(group, rho=rho)
    for one, value in zip(group, values, strict=True):
        assert 0 <= value <= 1 + rho
        assert one.right or value == 0
    right = sorted((one.seconds, -value) for one, value in zip(group, values, strict=True) if one.right)
    assert right == sorted(right, key=lambda pair: pair[1])
    assert sum(advantages(values)) == pytest.approx(0, abs=1e-9)


@given(st.lists(SCORED, min_size=2, max_size=8))
def test_expert_iteration_learns_the_quickest_right_run_of_each_problem(group):
    learned = to_learn([group, group], method="expert-iteration", rho=0.5)
    right = [one.seconds for one in group if one.right]
    assert [(one.seconds, gain) for one, gain in learned] == 2 * ([(min(right), 1.0)] if right else [])


def test_p_grpo_learns_nothing_of_a_group_whose_runs_are_all_alike():
    alike = [Scored(problem=0, member=n, right=True, seconds=1.0, tokens=9, width=1, rollout=ROLLOUT) for n in range(4)]
    assert to_learn([alike], method="p-grpo", rho=0.5) == []
    wrong = alike[0].model_copy(update={"right": False})
    gains = [gain for _, gain in to_learn([[wrong, *alike[1:]]], method="p-grpo", rho=0.5)]
    assert gains == [-0.75, 0.25, 0.25, 0.25]


def test_a_rollout_without_tokens_is_not_learned():
    empty = Scored(problem=0, member=0, right=False, seconds=0.0, tokens=0, width=0, rollout=None)
    right = Scored(problem=0, member=1, right=True, seconds=1.0, tokens=9, width=1, rollout=ROLLOUT)
    assert [one for one, _ in to_learn([[empty, right]], method="p-grpo", rho=0.5)] == [right]
