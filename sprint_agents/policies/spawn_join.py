"""Adaptive Parallel Reasoning (arXiv 2504.15466): threads spawn child threads, which may spawn children too."""

from collections.abc import AsyncGenerator

from sprint_agents.arguments import at_least, at_most_one
from sprint_agents.plan import Answer, Stage, Step

from .policy import Planning, Policy, factory


@factory
def spawn_join(*, depth: int = 2, share: float = 1.0) -> Policy:
    """Make a policy whose subtasks plan like the planner: they spawn, join and continue until they have a result.

    Executors carry out the subtasks ``depth`` levels down. A child may use at most ``share`` of the budget that is left
    when it starts. A model that was not trained to spawn from a child writes the child's result directly.
    """
    at_least(0, depth=depth)
    at_most_one(share=share)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        child = policy if planning.depth < depth else None
        while True:
            stage = yield planning.ask(nested=child, share=share)
            if stage.answer is not None:
                yield Answer(value=stage.answer)
                return

    return policy
