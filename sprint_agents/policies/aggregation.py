"""Aggregation: rounds of parallel attempts; the next round reads only the conclusions of the last one.

PaCoRe (arXiv 2601.05593), Recursive Self-Aggregation (arXiv 2509.26626) and Parallel-Distill-Refine (arXiv 2510.01123)
are of this form. The context grows by conclusions and not by thoughts, so the attempts of all rounds together may be
far longer than a context.
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from sprint_agents.arguments import at_least
from sprint_agents.errors import PolicyError
from sprint_agents.plan import Answer, Execution, Plan, Stage, Step

from .combinators import no_answer, relayed
from .policy import Planning, Policy, factory
from .self_consistency import most_common
from .sequential import sequential

Conclude = Callable[[Execution[Any]], str | Awaitable[str]]
"""Returns what the next round reads of an attempt that succeeded; may be async."""

_NOTE = (
    "These are the conclusions of independent attempts at this task. Any of them may be wrong. "
    "Use what is right in them:\n{conclusions}"
)


@factory
def aggregation(
    *rounds: int, subset: int | None = None, conclude: Conclude | None = None, policy: Policy = sequential
) -> Policy:
    """Make a policy that runs ``policy`` on the task in ``rounds`` of so many attempts at once, by default 4, 4 and 1.

    Each attempt after the first round reads the task and the conclusions of the round before: by default the answers,
    otherwise what ``conclude`` returns. With ``subset`` each attempt reads only so many of them, drawn at random but
    the same for each run. The answer is the most common one of the last round in which an attempt succeeded.

    PaCoRe ends with a single attempt. Recursive Self-Aggregation has rounds of equal size and a subset:
    ``aggregation(16, 16, 16, subset=4)``. The attempts differ only at a temperature above 0.
    """
    rounds = rounds or (4, 4, 1)
    for number, attempts in enumerate(rounds, 1):
        at_least(1, **{f"the number of attempts of round {number}": attempts})
    if subset is not None:
        at_least(1, subset=subset)

    async def rounds_of_attempts(planning: Planning) -> AsyncGenerator[Step, Stage]:
        found: list[Execution[Any]] = []
        tried: list[Execution[Any]] = []
        for number, attempts in enumerate(rounds, 1):
            conclusions = [await _conclusion(attempt, conclude, planning) for attempt in found]
            drawn = _drawn(conclusions, attempts, subset, seed=number)
            stage = yield planning.attempt(*(_informed(policy, read) for read in drawn))
            tried += stage.executions
            found = [attempt for attempt in stage.executions if attempt.succeeded] or found
        if not found:
            raise no_answer(tried)
        yield Answer(value=most_common(found))

    return rounds_of_attempts


async def _conclusion(attempt: Execution[Any], conclude: Conclude | None, planning: Planning) -> str:
    if conclude is None:
        return str(attempt.value)
    conclusion = await planning.call(conclude, attempt)
    if not isinstance(conclusion, str):
        raise PolicyError(f"conclude= returned {type(conclusion).__name__}: it returns a text to be read")
    return conclusion


def _drawn(conclusions: Sequence[str], attempts: int, subset: int | None, *, seed: int) -> list[Sequence[str]]:
    """Return the conclusions that each attempt reads.

    >>> _drawn(["a", "b", "c"], 2, 2, seed=2)
    [['a', 'c'], ['a', 'b']]
    >>> _drawn(["a", "b", "c"], 2, None, seed=2)
    [['a', 'b', 'c'], ['a', 'b', 'c']]
    """
    if subset is None or subset >= len(conclusions):
        return [conclusions] * attempts
    # A resumed run must ask for the same stages, so the draw depends on the round alone.
    generator = random.Random(seed)  # noqa: S311
    numbers = [sorted(generator.sample(range(len(conclusions)), subset)) for _ in range(attempts)]
    return [[conclusions[number] for number in drawn] for drawn in numbers]


def _informed(policy: Policy, conclusions: Sequence[str]) -> Policy:
    """Have ``policy`` read the conclusions before its first step."""
    if not conclusions:
        return policy
    listed = "\n".join(f"{number}. {conclusion}" for number, conclusion in enumerate(conclusions, 1))

    def note(planning: Planning) -> Plan:
        return Plan.of(text=_NOTE.format(conclusions=listed))

    return relayed(policy, first=note)
