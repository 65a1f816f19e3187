"""The sequential baseline: one long chain of thought, then the answer (arXiv 2506.05745, section 4)."""

from collections.abc import AsyncGenerator

from sprint_agents.plan import Answer, Stage, Step

from .policy import Planning


async def sequential(planning: Planning) -> AsyncGenerator[Step, Stage]:
    """Let the model think in one chain; if the chain ends without an answer, ask for the answer alone."""
    stage = yield planning.ask("chain")
    if stage.answer is None:
        stage = yield planning.ask("answer")
    yield Answer(value=stage.answer)
