"""Carry out one subtask under the run's failure policy: whatever happens becomes an ``Execution``."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

from sprint_agents.agents import Executor, ExecutorFunction, as_text
from sprint_agents.errors import ExecutionFailed, InvalidResult, PolicyError
from sprint_agents.events import ExecutionFinished, ExecutionRetried, SubtaskStarted
from sprint_agents.plan import Subtask
from sprint_agents.retries import retry
from sprint_agents.state import State
from sprint_agents.usage import CallUsage

from .executed import AnyExecution, Executed, failed
from .inner import InnerSprint, by_sprint
from .session import Session
from .turns import Turns

Carry = Callable[[Session, State, Subtask, int, list[CallUsage]], Awaitable[Executed]]
"""Carries out a subtask of a stage on its branch and books each request as it ends, broken-off ones too."""


async def execute(
    session: Session,
    branch: State,
    subtask: Subtask,
    *,
    stage: int,
    carry: Carry | None = None,
    costs: list[CallUsage] | None = None,
) -> Executed:
    """Run ``subtask`` on ``branch``, which stands at the end of its prompt or of the executions that it waited for.

    ``carry`` takes the executor's place. ``costs`` is for a caller who may cancel this and still wants to know them.

    Raises:
        ExecutionFailed: it failed, and the policy is ``fail_fast``.
        PolicyError: a policy that carries it out is used wrongly.
    """
    costs = [] if costs is None else costs
    try:
        session.ledger.take_subtask()
        if carry is not None:
            executed = await carry(session, branch, subtask, stage, costs)
        else:
            async with session.gate:
                if session.listening:
                    session.emit(SubtaskStarted(stage=stage, number=subtask.number, prompt=subtask.prompt))
                carry = _by_model if isinstance(session.executor, Executor) else _by_program
                executed = await carry(session, branch, subtask, stage, costs)
    except PolicyError:
        raise  # the program is at fault, not the model
    except Exception as error:
        if session.failure.mode == "fail_fast":
            raise ExecutionFailed(f"subtask {stage}.{subtask.number} failed: {error}") from error
        executed = failed(subtask, error, costs)
    if session.listening:
        session.emit(ExecutionFinished(stage=stage, execution=executed.execution))
    return executed


async def _by_model(session: Session, branch: State, subtask: Subtask, stage: int, costs: list[CallUsage]) -> Executed:
    executor = cast("Executor[Any]", session.executor)
    if session.elsewhere is not None:
        branch = await session.elsewhere.branch(branch.context)
    else:
        branch.sampling = executor.sampling or session.sampling
    start = branch.context
    await branch.append(session.dialect.write_header(stage, subtask.number, inputs=bool(subtask.inputs)))
    turns = Turns(session, executor, branch, subtask, stage, costs)
    try:
        try:
            value = await turns.take()
        except InvalidResult as wrong:
            value = await turns.correct(wrong)
    except Exception as error:
        if session.failure.mode == "fail_fast":
            raise
        return failed(subtask, error, costs, tool_uses=turns.uses, transcript=turns.transcript(start))
    usage = CallUsage.sum(costs)
    execution = AnyExecution(
        number=subtask.number,
        prompt=subtask.prompt,
        text=turns.text,
        value=value,
        usage=usage,
        tool_uses=turns.uses,
        transcript=turns.transcript(start),
    )
    ids = turns.last.ids if session.elsewhere is None else await session.engine.encode(turns.written)
    return Executed(execution, ids, turns.written, turns.content_tokens, usage.generated_tokens)


async def _by_program(
    session: Session, branch: State, subtask: Subtask, stage: int, costs: list[CallUsage]
) -> Executed:
    """Have a function or a nested ``Sprint`` carry out a subtask, again and again under ``retry``."""
    executor = cast("ExecutorFunction[Any] | InnerSprint", session.executor)

    async def once() -> Executed:
        if isinstance(executor, InnerSprint):
            return await by_sprint(session, executor, subtask, stage, costs)
        value = executor(subtask)
        if inspect.isawaitable(value):
            value = await value
        text = as_text(value)
        execution = AnyExecution(
            number=subtask.number, prompt=subtask.prompt, text=text, value=value, usage=CallUsage.sum(costs)
        )
        return Executed(execution, None, text)

    def announce(number: int, error: BaseException) -> None:
        session.ledger.note_retry()
        costs.append(CallUsage(retries=1))
        session.emit(ExecutionRetried(stage=stage, number=subtask.number, attempt=number, reason=str(error)))

    if session.failure.mode != "retry":
        return await once()
    return await retry(once, attempts=session.failure.attempts, before_retry=announce)
