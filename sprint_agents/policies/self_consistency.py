"""Self-consistency (ICLR 2023, arXiv 2203.11171): several independent attempts, and the most common answer."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from pydantic_core import to_json

from sprint_agents.arguments import at_least
from sprint_agents.plan import Answer, Execution, Plan, Stage, Step

from .combinators import no_answer
from .policy import Planning, Policy, factory
from .sequential import sequential


@factory
def self_consistency(samples: int = 8, *, judge: bool = False, policy: Policy = sequential) -> Policy:
    """Make a policy that runs ``policy`` on the task ``samples`` times at once, by default as one chain each.

    The answer is the most common one, on a tie the one that came first in order. With ``judge`` the model reads all
    answers and writes its own. The attempts differ only at a temperature above 0.
    """
    at_least(1, samples=samples)

    async def vote(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield planning.attempt(*[policy] * samples)
        found = [execution for execution in stage.executions if execution.succeeded]
        if not found:
            raise no_answer(stage.executions)
        if judge:
            yield Plan.of(text=_candidates(found))
            stage = yield planning.ask("answer")
            yield Answer(value=stage.answer)
            return
        yield Answer(value=most_common(found))

    return vote


def most_common(found: Sequence[Execution[Any]]) -> object:
    """Return the most common value."""
    return heaviest(found, [1.0] * len(found))[0]


def heaviest(found: Sequence[Execution[Any]], weights: Sequence[float]) -> tuple[object, float]:
    """Return the value of the most weight, on a tie the first in order, and its share of all weight.

    Values are compared as JSON, since answers may be of any type.
    """
    votes: dict[bytes, float] = {}
    values: dict[bytes, object] = {}
    for execution, weight in zip(found, weights, strict=True):
        text = to_json(execution.value)
        votes[text] = votes.get(text, 0.0) + weight
        values.setdefault(text, execution.value)
    best = max(votes, key=votes.__getitem__)
    total = sum(weights)
    return values[best], votes[best] / total if total else 0.0


def _candidates(found: Sequence[Execution[Any]]) -> str:
    answers = "\n".join(f"{number}. {execution.value}" for number, execution in enumerate(found, 1))
    return f"These are the answers of independent attempts, of which the best is the answer:\n{answers}"
