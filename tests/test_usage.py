from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.usage import parallelisation_ratio, sequential_tokens, sequential_tokens_strict

branches = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=5)


def test_the_longest_branch_counts_with_the_plan_before_it() -> None:
    assert sequential_tokens(30, [(10, 5), (20, 40), (25, 30)]) == 60


def test_a_plan_without_subtasks_counts_as_a_whole() -> None:
    assert sequential_tokens(30, []) == 30
    assert sequential_tokens_strict(30, []) == 30


def test_what_a_planner_writes_after_its_last_prompt_counts_strictly_only() -> None:
    assert sequential_tokens(30, [(10, 5)]) == 15
    assert sequential_tokens_strict(30, [(10, 5)]) == 30


@given(st.integers(0, 100), branches)
def test_the_strict_count_is_never_less(plan: int, subtasks: list[tuple[int, int]]) -> None:
    assert sequential_tokens_strict(plan, subtasks) >= sequential_tokens(plan, subtasks)
    assert sequential_tokens_strict(plan, subtasks) >= plan


def test_steps_per_stage() -> None:
    assert parallelisation_ratio([2, 0]) == 1.5
    assert parallelisation_ratio([0]) == 1.0
    assert parallelisation_ratio([]) == 1.0
