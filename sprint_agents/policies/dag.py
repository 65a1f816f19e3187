"""LLMCompiler (ICML 2024, arXiv 2312.04511): subtasks that depend on one another, each started as soon as it can be."""

from collections.abc import AsyncGenerator, Callable

from sprint_agents.plan import Answer, Plan, Stage, Step

from .factory import at_least, factory
from .planning import Planning, Policy


@factory
def dag(plan: Callable[[Planning], Plan] | None = None, *, replans: int = 2) -> Policy:
    """Make a policy of one plan with dependencies, and up to ``replans`` more if the planner is not content.

    The model writes the plan, with dependencies if its dialect has them; or ``plan`` does, such as
    ``lambda planning: Plan.of("…", "…", "…", after={3: (1, 2)})``. Behind the results the planner answers or replans.
    """
    at_least(0, replans=replans)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield plan(planning) if plan else planning.ask()
        for _ in range(replans):
            if stage.answer is not None:
                break
            stage = yield planning.ask()
        if stage.answer is None:
            stage = yield planning.ask("answer")
        yield Answer(value=stage.answer)

    return policy
