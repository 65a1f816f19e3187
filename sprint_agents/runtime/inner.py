"""A whole ``Sprint`` as executor: each subtask is a task of its own, on a context of its own.

It shares the run's budget, its deadline and its cancellation. For plans over forks of the same context, see ``nested``.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from sprint_agents.agents import Planner, as_text
from sprint_agents.budget import Ledger
from sprint_agents.errors import SprintError
from sprint_agents.events import Event, InnerEvent
from sprint_agents.plan import Subtask
from sprint_agents.run import Run
from sprint_agents.usage import CallUsage

from .executed import AnyExecution, Executed
from .session import Listener, Session


@runtime_checkable
class InnerSprint(Protocol):
    """What a ``Sprint`` is to the run that it is a part of."""

    @property
    def planner(self) -> Planner[Any]:
        """Return the agent whose answers are the results."""
        ...

    async def run_within(self, task: str, *, ledger: Ledger, listeners: Sequence[Listener]) -> Run[Any, Any]:
        """Solve ``task`` as a part of the run whose budget ``ledger`` keeps.

        Raises:
            SprintError: it failed; ``error.run`` is the inner run so far.
        """
        ...


async def by_sprint(
    session: Session, sprint: InnerSprint, subtask: Subtask, stage: int, costs: list[CallUsage]
) -> Executed:
    """Carry out a subtask as a run of ``sprint``.

    Raises:
        SprintError: the inner run failed.
    """

    def hear(event: Event) -> None:
        session.emit(InnerEvent(stage=stage, number=subtask.number, event=event))

    listeners = [hear] if session.listening else []
    try:
        run = await sprint.run_within(subtask.prompt, ledger=session.ledger, listeners=listeners)
    except SprintError as error:
        if error.run is not None:
            costs.append(_cost(error.run))
        raise
    costs.append(_cost(run))
    text = as_text(run.answer)
    execution = AnyExecution(
        number=subtask.number,
        prompt=subtask.prompt,
        text=text,
        value=run.answer,
        usage=CallUsage.sum(costs),
        stages=run.stages,
        transcript=run.transcript,
    )
    usage = run.usage
    return Executed(
        execution, None, text, content_tokens=usage.sequential_tokens, all_tokens=usage.sequential_tokens_strict
    )


def _cost(run: Run[Any, Any]) -> CallUsage:
    usage = run.usage
    return CallUsage(
        calls=usage.calls,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        generated_tokens=usage.total_tokens,
        tag_tokens=sum(stage.usage.total.tag_tokens for stage in run.stages),
        retries=usage.retries,
        tool_calls=usage.tool_calls,
    )
