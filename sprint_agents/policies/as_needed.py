"""ADaPT (NAACL 2024 Findings, arXiv 2311.05772): try the task first, and plan only if that fails."""

from collections.abc import AsyncGenerator

from sprint_agents.arguments import at_least, at_most_one
from sprint_agents.plan import Accept, Answer, Stage, Step

from .combinators import accept_any
from .policy import Planning, Policy, factory
from .sequential import sequential


@factory
def as_needed(check: Accept | None = None, *, depth: int = 2, share: float = 1.0) -> Policy:
    """Make a policy that tries the task in one chain and plans only if that fails; its subtasks do the same.

    The try fails if it gives no answer or if ``check`` rejects it. ``check`` receives the try as an ``Execution``,
    whose ``prompt`` is the task or the subtask. A failed try leaves nothing in the context. Executors carry out the
    subtasks ``depth`` levels down. A subtask may use at most ``share`` of the budget that is left when it starts.
    """
    at_least(0, depth=depth)
    at_most_one(share=share)

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield planning.attempt(sequential, accept=check or accept_any)
        if stage.accepted is not None:
            yield Answer(value=stage.executions[0].value)
            return
        child = policy if planning.depth < depth else None
        while True:
            stage = yield planning.ask(nested=child, share=share)
            if stage.answer is not None:
                yield Answer(value=stage.answer)
                return

    return policy
