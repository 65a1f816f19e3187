"""Skeleton-of-Thought (ICLR 2024, arXiv 2307.15337): plan the points of the answer, then write them all at once."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

from sprint_agents.plan import Answer, Stage, Step

from .policy import Planning, Policy, factory


@factory
def skeleton(*, merge: Callable[[list[Any]], object] | None = None) -> Policy:
    r"""Make a policy with one plan, whose subtasks are the points of the answer.

    By default the planner reads the points and answers. ``merge`` makes the answer from the points instead, async or
    not: with ``merge="\n\n".join`` it is their text, as in the paper.
    """

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield planning.ask()
        if stage.answer is None and merge is not None and stage.results:
            yield Answer(value=await planning.call(merge, stage.results))
            return
        if stage.answer is None:
            stage = yield planning.ask("answer")
        yield Answer(value=stage.answer)

    return policy
