"""Tree of Thoughts (NeurIPS 2023, arXiv 2305.10601) as a beam search: propose steps, keep the best."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from sprint_agents.arguments import at_least
from sprint_agents.plan import Answer, Execution, Plan, Stage, Step

from .policy import Planning, Policy, factory

_FIRST = "Propose one first step towards the solution, and only that step. This is proposal {number} of {count}."
_NEXT = "Go on from execution {thought}: propose one next step, and only that. This is proposal {number} of {count}."
_RATE = (
    "How likely does proposal {number}, as it was carried out, lead to the solution? Give a number from 0 to 10 alone."
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")

Value = Callable[[Execution[Any]], float | Awaitable[float]]
"""Returns how promising a proposal is; higher is better. May be async."""


@factory
def tree_search(value: Value | None = None, *, beam: int = 2, proposals: int = 3, depth: int = 3) -> Policy:
    """Make a policy that searches ``depth`` steps deep and keeps the ``beam`` best proposals at each step.

    For each kept proposal, the model makes ``proposals`` for the next step. ``value`` rates a proposal, higher is
    better. Without it the model rates each proposal once it is finished. Only the best proposals join the
    context, and from them the planner answers.
    """
    at_least(1, beam=beam, proposals=proposals, depth=depth)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        async def best(executions: Sequence[Execution[Any]]) -> list[int]:
            return await _best(executions, value, beam, planning)

        thoughts = [""]
        for _ in range(depth):
            plan = _proposals(thoughts, proposals, rated=value is None)
            stage = yield plan.model_copy(update={"keep": best})
            thoughts = [f"{stage.plan_number}.{number}" for number in await best(stage.executions)]
            if not thoughts or stage.accepted is not None:
                break
        stage = yield planning.ask("answer")
        yield Answer(value=stage.answer)

    return policy


def _proposals(thoughts: Sequence[str], each: int, *, rated: bool) -> Plan:
    """Plan ``each`` proposals from each thought; if ``rated``, add a rating of each, which waits for its proposal."""
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


async def _best(executions: Sequence[Execution[Any]], value: Value | None, beam: int, planning: Planning) -> list[int]:
    """Return the numbers of the best proposals, in prompt order; failed ones are left out."""
    count = len(executions) if value else len(executions) // 2
    proposals = [execution for execution in executions[:count] if execution.succeeded]
    values = {
        proposal.number: await planning.call(value, proposal)
        if value
        else _rating(executions[count + proposal.number - 1])
        for proposal in proposals
    }
    return sorted(sorted(values, key=values.__getitem__, reverse=True)[:beam])


def _rating(execution: Execution[Any]) -> float:
    """Return the first number in the text; 0 without one."""
    found = _NUMBER.search(execution.text)
    return float(found.group()) if found else 0.0
