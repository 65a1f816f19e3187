"""The join: append finished executions to a context, as the ids that the executors generated.

Invariants:

- Executions join in prompt order, whatever order they finished in.
- An execution is one execution to the planner. If a part of what its model wrote would read as another turn, the
  dialect writes it again.
- Thoughts do not join if the chat template drops those of earlier turns.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from sprint_agents.dialects.base import Dialect, JoinedExecution
from sprint_agents.errors import PolicyError, describe
from sprint_agents.markup import compose
from sprint_agents.plan import Keep
from sprint_agents.state import State

from .executor import SubtaskOutcome
from .thoughts import without_thoughts


async def append_executions(
    dialect: Dialect,
    state: State,
    stage: int,
    outcomes: Sequence[SubtaskOutcome],
    *,
    plan: str | None = None,
    inputs: bool = False,
    more: bool = False,
) -> None:
    """Append executions to ``state``; for ``plan`` and ``inputs`` see ``Dialect.write_join``.

    With ``more``, others will follow: it appends what is known by now of all of them, up to the last generated ids.
    """
    executions: list[JoinedExecution] = []
    completions: list[tuple[Sequence[int], str]] = []
    for item in outcomes:
        number, text = item.execution.number, item.text
        if item.ids is not None:
            opening, written = without_thoughts(dialect, "execution", item.text)
            text = dialect.write_completion(stage, number, written)
            text = compose([opening, text]) if opening else text
            completions.append((item.ids if text == item.text else await state.engine.encode(text), text))
        failed = not item.execution.succeeded
        executions.append(JoinedExecution(number, text, generated=item.ids is not None, failed=failed))
    texts = dialect.write_join(stage, executions, plan=plan, inputs=inputs)
    befores = texts[: len(completions)]
    if state.engine.capabilities.asks_to_encode:
        encoded = await asyncio.gather(*map(state.engine.encode, befores))
    else:
        encoded = [await state.engine.encode(before) for before in befores]
    joined_ids: list[int] = []
    joined: list[str] = []
    for before, opening, (ids, text) in zip(befores, encoded, completions, strict=True):
        joined_ids += opening
        joined_ids += ids
        joined += (before, text)
    state.context = state.context.extend(joined_ids, compose(joined))
    if not more:
        await state.append(texts[-1])


class Settled(NamedTuple):
    """The execution ``number`` settled its stage: as the first that ended, or ``in_order`` as the first of the plan."""

    number: int
    in_order: bool


CallFunction = Callable[[Callable[..., Any], object], Awaitable[Any]]
"""Calls a function with a value, as ``Session.call_function`` does."""


async def select_executions(
    keep: Keep | None,
    outcomes: Sequence[SubtaskOutcome],
    *,
    stage: int,
    settled: Settled | None,
    call: CallFunction,
) -> Sequence[SubtaskOutcome]:
    """Return the executions that join: those that ``keep`` names, and the one that ``settled`` the stage.

    None that was given up for that one joins and, if it settled the stage in order, none after it.

    Raises:
        PolicyError: ``keep`` fails, or names an execution that does not exist.
    """
    if keep is not None:
        numbers = await _call_keep(keep, outcomes, stage=stage, call=call)
        if settled is not None:
            numbers.add(settled.number)
        outcomes = [item for item in outcomes if item.execution.number in numbers]
    if settled is None:
        return outcomes
    if settled.in_order:
        return [item for item in outcomes if item.execution.number <= settled.number]
    return [item for item in outcomes if not item.execution.stopped]


async def _call_keep(keep: Keep, outcomes: Sequence[SubtaskOutcome], *, stage: int, call: CallFunction) -> set[int]:
    try:
        numbers = {*await call(keep, [item.execution for item in outcomes])}
    except Exception as error:
        raise PolicyError(
            f"keep= failed on the executions of stage {stage}, {describe(error)}: it is given all, failed ones too, "
            "and returns the numbers of those to keep"
        ) from error
    if strange := numbers - {item.execution.number for item in outcomes}:
        raise PolicyError(
            f"keep= named {min(strange)!r} of stage {stage}, which is not an execution that it was given: "
            "return the numbers of those to keep, as in [execution.number for execution in executions]"
        )
    return numbers
