"""Adaptive Parallel Reasoning (arXiv 2504.15466): threads spawn children, which may spawn children of their own."""

from collections.abc import AsyncGenerator

from sprint_agents.plan import Answer, Stage, Step

from .factory import at_least, factory
from .planning import Planning, Policy


@factory
def spawn_join(*, depth: int = 2, share: float = 1.0) -> Policy:
    """Make a policy whose subtasks plan as the planner does: spawn, join, and go on, until they have their result.

    Subtasks ``depth`` levels down are carried out by executors. A child uses at most ``share`` of what is left of the
    budget when it starts. A model that was not trained to spawn from a child just writes the child's result.
    """
    at_least(0, depth=depth)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        child = policy if planning.depth < depth else None
        while True:
            stage = yield planning.ask(nested=child, share=share)
            if stage.answer is not None:
                yield Answer(value=stage.answer)

    return policy
