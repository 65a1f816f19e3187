"""The validators of agents: a value of the right type may still be refused, and the model reads why."""

from typing import Any

from sprint_agents.agents import Executor, Planner
from sprint_agents.errors import FunctionError, InvalidResult, ModelRetry, describe, message_of, show

from .session import Session


async def validate(
    session: Session,
    agent: Executor[Any] | Planner[Any],
    value: object,
    text: str,
    *,
    stage: int | None = None,
    number: int | None = None,
) -> None:
    """Have the agent's validator look at a value that was read from ``text``.

    Raises:
        InvalidResult: the model shall try again.
        FunctionError: the validator failed.
    """
    if agent.validator is None:
        return
    try:
        returned = await session.call_function(agent.validator, value, stage=stage, number=number)
    except ModelRetry as refused:
        reason = message_of(refused)
        raise InvalidResult(f"{text.strip()[:200]!r} was refused: {reason}", text=text, reason=reason) from refused
    except Exception as error:
        raise FunctionError(f"validator= failed on {text.strip()[:200]!r}, {describe(error)}") from error
    if returned is not None and returned is not value:
        raise FunctionError(
            f"validator= returned {show(returned)}: it raises ModelRetry to refuse a value, and returns nothing"
        )
