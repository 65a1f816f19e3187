"""Tree of Thoughts (NeurIPS 2023, arXiv 2305.10601) as a beam: propose next steps, value them, go on from the best."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from sprint_agents.plan import Answer, Execution, Plan, Stage, Step

from .factory import at_least, factory
from .planning import Planning, Policy

_FIRST = "Propose one first step towards the solution, and only that step. This is proposal {number} of {count}."
_NEXT = "Go on from execution {thought}: propose one next step, and only that. This is proposal {number} of {count}."
_RATE = (
    "How likely does proposal {number}, as it was carried out, lead to the solution? Give a number from 0 to 10 alone."
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")

Value = Callable[[Execution[Any]], float]
"""How promising a proposal is."""


@factory
def tree_search(value: Value | None = None, *, beam: int = 2, proposals: int = 3, depth: int = 3) -> Policy:
    """Make a policy that searches ``depth`` steps deep, with ``proposals`` for the next one from each of ``beam``.

    ``value`` says how promising a proposal is, more is better. Without it the model rates each one as soon as it is
    there. Only the best stay in the context, and the planner answers on them.
    """
    at_least(1, beam=beam, proposals=proposals, depth=depth)

    def best(executions: Sequence[Execution[Any]]) -> list[int]:
        return _best(executions, value, beam)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        thoughts = [""]
        for _ in range(depth):
            plan = _proposals(thoughts, proposals, rated=value is None)
            stage = yield plan.model_copy(update={"keep": best})
            thoughts = [f"{stage.plan_number}.{number}" for number in best(stage.executions)]
            if not thoughts or stage.accepted is not None:
                break
        stage = yield planning.ask("answer")
        yield Answer(value=stage.answer)

    return policy


def _proposals(thoughts: Sequence[str], each: int, *, rated: bool) -> Plan:
    """Ask for steps from each thought; behind them, each waiting for its own, for their ratings."""
    count = each * len(thoughts)
    sources = [thought for thought in thoughts for _ in range(each)]
    prompts = [
        (_NEXT if thought else _FIRST).format(thought=thought, number=number, count=count)
        for number, thought in enumerate(sources, 1)
    ]
    if not rated:
        return Plan.of(*prompts)
    rates = [_RATE.format(number=number) for number in range(1, count + 1)]
    return Plan.of(*prompts, *rates, after={count + number: (number,) for number in range(1, count + 1)})


def _best(executions: Sequence[Execution[Any]], value: Value | None, beam: int) -> list[int]:
    """Return the numbers of the proposals of highest value, in prompt order; failed ones are of none."""
    count = len(executions) if value else len(executions) // 2
    proposals = [execution for execution in executions[:count] if execution.succeeded]
    best = sorted(
        proposals, key=value or (lambda proposal: _rating(executions[count + proposal.number - 1])), reverse=True
    )
    return sorted(proposal.number for proposal in best[:beam])


def _rating(execution: Execution[Any]) -> float:
    """Read the number that a model gave; without one it is 0."""
    found = _NUMBER.search(execution.text)
    return float(found.group()) if found else 0.0
