"""LLMCompiler (ICML 2024, arXiv 2312.04511): subtasks with dependencies, each started as soon as its own are done."""

from collections.abc import AsyncGenerator, Callable

from sprint_agents.arguments import at_least
from sprint_agents.plan import Answer, Plan, Stage, Step

from .policy import Planning, Policy, factory


@factory
def dag(plan: Callable[[Planning], Plan] | None = None, *, replans: int = 2) -> Policy:
    """Make a policy with one plan of dependent subtasks, after which the planner answers or plans again.

    The planner may plan again up to ``replans`` times. The model writes the first plan, with dependencies if its
    dialect has them, unless ``plan`` does: ``lambda planning: Plan.of("…", "…", "…", after={3: (1, 2)})``.
    """
    at_least(0, replans=replans)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield plan(planning) if plan else planning.ask("graph")
        for _ in range(replans):
            if stage.answer is not None:
                break
            stage = yield planning.ask("graph")
        if stage.answer is None:
            stage = yield planning.ask("answer")
        yield Answer(value=stage.answer)

    return policy
