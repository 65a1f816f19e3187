"""What came of attempts."""

from collections.abc import Sequence
from typing import Any

from sprint_agents.errors import NoAnswer
from sprint_agents.plan import Execution, Stage


def answered(stage: Stage[Any]) -> Sequence[Execution[Any]]:
    """Return the attempts of a stage that came to an answer, at least one.

    Raises:
        NoAnswer: none did; the message says why.
    """
    found = [execution for execution in stage.executions if execution.succeeded]
    if not found:
        raise no_answer(stage.executions)
    return found


def no_answer(attempts: Sequence[Execution[Any]]) -> NoAnswer:
    """Make an error that says what became of each attempt."""
    outcomes = (
        f"{number}: {attempt.failure.type}: {attempt.failure.message}"
        if attempt.failure
        else f"{number}: the answer {attempt.value!r} did not pass"
        for number, attempt in enumerate(attempts, 1)
    )
    return NoAnswer(f"none of {len(attempts)} attempts came to a good answer; {'; '.join(outcomes)}")
