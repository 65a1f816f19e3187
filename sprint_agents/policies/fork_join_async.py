"""AsyncThink (arXiv 2510.26658): the planner continues to write after a fork and waits only at a join."""

from collections.abc import AsyncGenerator

from sprint_agents.arguments import at_least
from sprint_agents.plan import Answer, Stage, Step

from .policy import Planning, Policy, factory


@factory
def fork_join_async(*, ahead: int = 1) -> Policy:
    """Make a policy whose planner writes up to ``ahead`` more plans while executions of earlier plans still run.

    With a plan without subtasks, the planner asks for results: it continues when all executions have joined. When it
    answers, executions that still run are cancelled. A model that knows only the paper's format expects results
    directly after each plan, which ``ahead=0`` gives it.
    """
    at_least(0, ahead=ahead)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        while True:
            stage = yield planning.ask(wait=False)
            if stage.answer is not None:
                yield Answer(value=stage.answer)
                return
            while len(planning.pending) > (ahead if stage.pending else 0):
                yield planning.join()

    return policy
