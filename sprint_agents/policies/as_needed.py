"""ADaPT (NAACL 2024 Findings, arXiv 2311.05772): try first, and split only what fails."""

from collections.abc import AsyncGenerator
from typing import Any

from sprint_agents.plan import Accept, Answer, Execution, Stage, Step

from .factory import at_least, factory
from .planning import Planning, Policy
from .sequential import sequential


@factory
def as_needed(check: Accept | None = None, *, depth: int = 2, share: float = 1.0) -> Policy:
    """Make a policy that tries the task in one chain, and plans only if that fails; its subtasks do the same.

    A try fails if it comes to no answer, or if ``check`` says no: it is given the try as an ``Execution``, whose
    ``prompt`` is the task or the subtask. A failed try leaves nothing in the context. Subtasks ``depth`` levels down
    are carried out by executors. A subtask uses at most ``share`` of what is left of the budget when it starts.
    """
    at_least(0, depth=depth)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield planning.attempt(sequential, accept=check or _any)
        if stage.accepted is not None:
            yield Answer(value=stage.executions[0].value)
        child = policy if planning.depth < depth else None
        while True:
            stage = yield planning.ask(nested=child, share=share)
            if stage.answer is not None:
                yield Answer(value=stage.answer)

    return policy


def _any(tried: Execution[Any]) -> bool:
    return True
