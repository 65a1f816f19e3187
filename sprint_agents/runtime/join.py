"""Write finished executions into a context, as the ids that the executors produced.

Invariant: executions stand in prompt order, whatever order they finished in.
"""

from collections.abc import Sequence

from sprint_agents.dialects.base import Dialect
from sprint_agents.dialects.prompts import JoinedExecution
from sprint_agents.errors import PolicyError, Superseded
from sprint_agents.plan import Failure, Keep
from sprint_agents.state import State

from .executed import Executed


async def write(
    dialect: Dialect,
    state: State,
    stage: int,
    executed: Sequence[Executed],
    *,
    plan: str | None = None,
    inputs: bool = False,
) -> None:
    """Append executions to ``state``; for ``plan`` and ``inputs`` see ``Dialect.write_join``."""
    joined = [
        JoinedExecution(item.execution.number, item.text, item.ids is not None, not item.execution.succeeded)
        for item in executed
    ]
    texts = dialect.write_join(stage, joined, plan=plan, inputs=inputs)
    generated = [(item.ids, item.text) for item in executed if item.ids is not None]
    for before, (ids, text) in zip(texts, generated, strict=False):
        state.context = state.context.extend((*await state.engine.encode(before), *ids), before + text)
    await state.append(texts[-1])


def kept(keep: Keep | None, executed: Sequence[Executed], *, stage: int, accepted: int | None) -> Sequence[Executed]:
    """Choose what joins the planner's context: what ``keep`` names; and what was accepted, but nothing given up for it.

    Raises:
        PolicyError: ``keep`` fails, or names an execution that there is not.
    """
    if keep is not None:
        named = _named(keep, executed, stage=stage)
        executed = [item for item in executed if item.execution.number in named or item.execution.number == accepted]
    if accepted is None:
        return executed
    return [item for item in executed if not _given_up(item.execution.failure)]


def _named(keep: Keep, executed: Sequence[Executed], *, stage: int) -> set[int]:
    try:
        numbers = {*keep([item.execution for item in executed])}
    except Exception as error:
        raise PolicyError(
            f"keep= failed on the executions of stage {stage}, {error!r}: it is given them all, failed ones too, and "
            "returns the numbers of those to keep"
        ) from error
    if strange := numbers - {item.execution.number for item in executed}:
        raise PolicyError(
            f"keep= named {min(strange)!r} of stage {stage}, which is no execution that it was given: "
            "return the numbers of those to keep, as in [execution.number for execution in executions]"
        )
    return numbers


def _given_up(failure: Failure | None) -> bool:
    return failure is not None and failure.type == Superseded.__name__
