"""SPRINT (NeurIPS 2025, arXiv 2506.05745): plan, execute in parallel, join, and plan again until the answer."""

from collections.abc import AsyncGenerator

from sprint_agents.plan import Answer, Stage, Step

from .policy import Planning


async def interleaved(planning: Planning) -> AsyncGenerator[Step, Stage]:
    """Let the model plan stage after stage until it answers; in the last stage the runtime makes it answer."""
    while True:
        stage = yield planning.ask()
        if stage.answer is not None:
            yield Answer(value=stage.answer)
            return
