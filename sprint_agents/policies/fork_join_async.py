"""AsyncThink (arXiv 2510.26658): the planner goes on writing after a fork, and waits only where it joins."""

from collections.abc import AsyncGenerator

from sprint_agents.plan import Answer, Stage, Step

from .factory import at_least, factory
from .planning import Planning, Policy


@factory
def fork_join_async(*, ahead: int = 1) -> Policy:
    """Make a policy that lets the planner write up to ``ahead`` plans more while executions of earlier ones run.

    A plan without subtasks is the planner's word that it needs results: it is asked again when all have joined. What
    runs when the planner answers is given up. A model that knows only the paper's format expects the results of a
    plan right behind it; ``ahead=0`` does that.
    """
    at_least(0, ahead=ahead)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        while True:
            stage = yield planning.ask(wait=False)
            if stage.answer is not None:
                yield Answer(value=stage.answer)
            while len(planning.pending) > (ahead if stage.pending else 0):
                yield planning.join()

    return policy
