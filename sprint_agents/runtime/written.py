"""The events of what models write, piece by piece."""

from sprint_agents.engine import Chunk
from sprint_agents.events import ExecutorWrote, PlannerWrote
from sprint_agents.generation import Generation

from .session import Session


def emit_planner(session: Session, stage: int, generation: Generation, chunk: Chunk) -> None:
    """Report a piece of a planner's completion."""
    session.emit(
        PlannerWrote(
            **session.stamp(),
            stage=stage,
            text=chunk.text,
            tokens=generation.tokens,
            reasoning=chunk.reasoning,
            logprobs=tuple(chunk.logprobs),
        )
    )


def emit_executor(session: Session, stage: int, number: int, generation: Generation, chunk: Chunk) -> None:
    """Report a piece of an executor's completion."""
    session.emit(
        ExecutorWrote(
            **session.stamp(),
            stage=stage,
            number=number,
            text=chunk.text,
            tokens=generation.tokens,
            reasoning=chunk.reasoning,
            logprobs=tuple(chunk.logprobs),
        )
    )
