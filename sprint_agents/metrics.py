"""The arithmetic of a trajectory's metrics (arXiv 2506.05745, section 4), for running and finished stages alike.

A stage is given as its plan's tokens and its branches, one ``(before, execution)`` a subtask: the plan's tokens up to
the end of the subtask's prompt, and the execution's own. The caller decides whether tags are among the tokens.
"""

from collections.abc import Iterable, Sequence

Branch = tuple[int, int]
"""The plan's tokens up to the end of a prompt, and the tokens of its execution."""


def sequential_tokens(plan_tokens: int, branches: Iterable[Branch]) -> int:
    """Return a stage's part of the critical path as the paper counts it: the text after the last prompt is free.

    A plan without subtasks counts as a whole.

    >>> sequential_tokens(50, [(10, 100), (30, 20)]), sequential_tokens(50, [(10, 20)]), sequential_tokens(50, [])
    (110, 30, 50)
    """
    return max((before + execution for before, execution in branches), default=plan_tokens)


def sequential_tokens_strict(plan_tokens: int, branches: Iterable[Branch]) -> int:
    """Return the longest chain of tokens in a stage of which each had to wait for the one before it.

    The executions run while the planner writes on, so the stage is over when the plan and all of them are.

    >>> sequential_tokens_strict(50, [(10, 100), (30, 20)]), sequential_tokens_strict(50, [(10, 20)])
    (110, 50)
    """
    return max(plan_tokens, sequential_tokens(plan_tokens, branches))


def parallelisation_ratio(subtasks: Sequence[int]) -> float:
    """Return steps per stage, from the number of subtasks of each stage; 1.0 where there is no stage.

    The paper counts the steps of the trace that a trajectory was made from. In a finished trajectory a step is a
    subtask, or a plan without any.

    >>> parallelisation_ratio([3, 0, 2])
    2.0
    """
    return sum(max(1, count) for count in subtasks) / len(subtasks) if subtasks else 1.0
