"""Skeleton-of-Thought (ICLR 2024, arXiv 2307.15337): write the points of the answer first, then all of them at once."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

from sprint_agents.plan import Answer, Stage, Step

from .factory import factory
from .planning import Planning, Policy


@factory
def skeleton(*, merge: Callable[[list[Any]], object] | None = None) -> Policy:
    r"""Make a policy of one plan, whose subtasks are the points, and one answer.

    The paper's answer is the points as they stand, such as ``merge="\n\n".join`` makes it. By default the planner
    reads them and answers, as a task with one result needs it.
    """

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield planning.ask()
        if stage.answer is None and merge is not None and stage.results:
            yield Answer(value=merge(stage.results))
        if stage.answer is None:
            stage = yield planning.ask("answer")
        yield Answer(value=stage.answer)

    return policy
