"""The answer of a run as the planner's type; where the model wrote it, it may correct itself."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from sprint_agents.errors import InvalidResult, NoAnswer
from sprint_agents.plan import Stage
from sprint_agents.policies import Planning
from sprint_agents.retries import may_be_corrected, retry

from .session import Session

Again = Callable[[str], Awaitable[Stage[Any]]]
"""Tells the planner what is wrong with its answer, and returns the stage in which it answers again."""


async def agreed(session: Session, planning: Planning, value: object, *, again: Again) -> Any:
    """Return a policy's answer as the planner's type.

    Only an answer in the planner's own words, those of the last stage, is worth asking ``again`` for.

    Raises:
        NoAnswer: there is none.
        InvalidResult: it is not of the declared type, after as many attempts as the planner has.
    """
    wrong: InvalidResult | None = None

    async def once() -> Any:
        nonlocal value
        if wrong is not None:
            value = (await again(wrong.reason)).answer
        return _read(session, value)

    def announce(_: int, error: BaseException) -> None:
        nonlocal wrong
        assert isinstance(error, InvalidResult)
        wrong = error

    own = bool(planning.stages) and isinstance(value, str) and value == planning.stages[-1].answer
    return await retry(
        once, attempts=session.planner.attempts if own else 1, when=may_be_corrected, before_retry=announce
    )


def _read(session: Session, value: object) -> Any:
    if value is None or value == "":
        raise NoAnswer("the run ended without an answer: the planner wrote none within its limits")
    return session.planner.read(value) if isinstance(value, str) else session.planner.accept(value)


def repeated(stage: Stage[Any], retries: int, *, correction: bool = False) -> Stage[Any]:
    """Count the planner's own retries; a ``correction`` is no part of the critical path as the paper counts it."""
    if not retries:
        return stage
    total = replace(stage.usage.total, retries=stage.usage.total.retries + retries)
    usage = stage.usage.model_copy(update={"total": total, **({"sequential_tokens": 0} if correction else {})})
    return stage.model_copy(update={"usage": usage})
