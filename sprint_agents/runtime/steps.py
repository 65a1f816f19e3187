"""The steps of a policy: which objects are steps, what becomes of their stages, and what its errors become."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sprint_agents.engine import Engine, Sampling, check_logprobs
from sprint_agents.errors import FunctionError, PolicyError, SprintError, describe, show
from sprint_agents.events import Event
from sprint_agents.functions import as_exception, cancelling
from sprint_agents.plan import Ask, Attempts, Plan, Stage, Step
from sprint_agents.policies import Planning

from .listeners import Listener, Relay
from .session import Session


@contextmanager
def policy_runs(planning: Planning) -> Generator[None]:
    """Turn what a policy raises in the block into what ends its run, or its attempt or execution if it is nested.

    Raises:
        CancelledError: the run was cancelled or is out of time, even if the policy ignored it.
        PolicyError: a run's own policy raised an error that is not this library's.
        Exception: any other error of the policy; in a nested one it becomes data, under its own name.
    """
    before = cancelling()
    try:
        yield
    except BaseException as error:
        raised = as_exception(error)
        if cancelling() > before:
            raise asyncio.CancelledError from error
        known = isinstance(raised, SprintError) and not isinstance(raised, FunctionError)
        if not (known or planning.depth):
            raised = PolicyError(f"the policy raised after {len(planning.stages)} stages, {describe(raised)}")
        if raised is error:
            raise  # with another error as its cause, or with none
        raise raised from error
    if cancelling() > before:
        raise asyncio.CancelledError


@asynccontextmanager
async def closing(steps: AsyncGenerator[Step, Stage[Any]], planning: Planning) -> AsyncGenerator[None]:
    """Close a policy at the end of the block; what its ``finally`` raises ends the run, unless the block has raised."""
    try:
        yield
    except BaseException:
        try:
            await steps.aclose()
        except BaseException as error:
            as_exception(error)  # the policy's error would hide that of the block
        raise
    with policy_runs(planning):
        await steps.aclose()


def check_step(step: object, engine: Engine) -> Plan | Ask | Attempts:
    """Refuse what is not a step, has options that its form ignores, or asks ``engine`` for what it does not have.

    Raises:
        PolicyError: it is one of the first two.
        ConfigurationError: it asks for log-probabilities, and the engine returns none.
    """
    if not isinstance(step, Plan | Ask | Attempts):
        raise PolicyError(
            f"a policy yields a Plan, an Answer, or what planning.ask, .attempt and .join return, not {show(step)}"
        )
    if isinstance(step, Ask) and not step.plans and (options := step.model_fields_set - {"form"}):
        raise PolicyError(
            f"planning.ask({step.form!r}) starts no subtasks, so {min(options)}= says nothing: leave it out, "
            "or ask for a plan"
        )
    if isinstance(step, Attempts):
        check_logprobs(engine, Sampling(logprobs=step.logprobs))
    return step


def numbered(stage: Stage[Any], number: int) -> Stage[Any]:
    """Give a stage the number of its step."""
    return stage if stage.number == number else stage.model_copy(update={"number": number})


def with_retries(stage: Stage[Any], retries: int, *, correction: bool) -> Stage[Any]:
    """Add the planner's own retries; the paper's critical path leaves out corrections (arXiv 2506.05745, section 4)."""
    if not retries:
        return stage
    total = replace(stage.usage.total, retries=stage.usage.total.retries + retries)
    usage = stage.usage.model_copy(update={"total": total, **({"sequential_tokens": 0} if correction else {})})
    return stage.model_copy(update={"usage": usage})


def renumber(session: Session, shift: int) -> Listener:
    """Emit events of a stage under the number of its step, where the context numbers its plan otherwise."""

    def relay(event: Event) -> None:
        session.emit(event.model_copy(update={"stage": event.stage + shift}))  # type: ignore[union-attr]

    return Relay(relay, session.reading)


def check_dependencies(plan: Plan, stage: int) -> None:
    """Refuse a policy's plan whose subtasks cannot be executed.

    Raises:
        PolicyError: the subtasks are not numbered 1, 2, 3, …; or one waits for itself, for one that the plan does not
            have, or for one that waits for it.
    """
    if [subtask.number for subtask in plan.subtasks] != list(range(1, len(plan.subtasks) + 1)):
        raise PolicyError(f"the subtasks of plan {stage} are not numbered 1, 2, 3, …: make it with Plan.of(prompt, …)")
    graph = {subtask.number: subtask.after for subtask in plan.subtasks if subtask.after}
    for number, after in graph.items():
        if strange := [other for other in after if not 1 <= other <= len(plan.subtasks)]:
            raise PolicyError(
                f"subtask {stage}.{number} waits for {stage}.{strange[0]}, which the plan does not have: "
                f"after= names subtasks of the same plan, 1 to {len(plan.subtasks)}"
            )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = " for ".join(f"{stage}.{number}" for number in reversed(error.args[1]))
        raise PolicyError(
            f"subtasks of plan {stage} wait for each other, {cycle}: take one of these out of after="
        ) from None
