"""Carry out one subtask under the run's failure policy: whatever happens becomes an ``Execution``."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from sprint_agents.agents import Executor, ExecutorFunction, as_text
from sprint_agents.dialect.tags import overlap
from sprint_agents.errors import ExecutionFailed
from sprint_agents.events import ExecutionFinished, ExecutionRetried, ExecutorWrote, SubtaskStarted
from sprint_agents.plan import Execution, Failure, Subtask
from sprint_agents.retrying import retried
from sprint_agents.state import Generation, State
from sprint_agents.usage import CallUsage

from .session import Session, usage_of

AnyExecution = Execution[Any]
"""Named once: pydantic looks a parametrised model up each time it is written."""


@dataclass(slots=True)
class Executed:
    """A finished execution, with what the join needs: the ids as they were generated, or text where there are none.

    ``content_tokens`` are those of the last attempt without tags, ``all_tokens`` those of all attempts.
    """

    execution: Execution[Any]
    ids: Sequence[int] | None
    text: str
    content_tokens: int = 0
    all_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one attempt came to."""

    value: Any
    text: str
    generation: Generation | None


async def execute(session: Session, branch: State, subtask: Subtask, *, stage: int) -> Executed:
    """Run ``subtask`` on ``branch``, which stands at the end of its prompt.

    Raises:
        ExecutionFailed: it failed, and the policy is ``fail_fast``.
    """
    costs: list[CallUsage] = []
    try:
        session.ledger.take_subtask()
        async with session.gate:
            if session.listening:
                session.emit(SubtaskStarted(stage=stage, number=subtask.number, prompt=subtask.prompt))
            attempt = await _attempts(session, branch, subtask, stage, costs)
    except Exception as error:
        if session.failure.mode == "fail_fast":
            raise ExecutionFailed(f"subtask {stage}.{subtask.number} failed: {error}") from error
        executed = _failed(subtask, error, costs)
    else:
        executed = _succeeded(subtask, attempt, costs)
    if session.listening:
        session.emit(ExecutionFinished(stage=stage, execution=executed.execution))
    return executed


async def _attempts(session: Session, branch: State, subtask: Subtask, stage: int, costs: list[CallUsage]) -> _Attempt:
    executor = session.executor
    if isinstance(executor, Executor):
        once = partial(_by_model, session, cast(Executor[Any], executor), branch, subtask, stage, costs)
    else:
        once = partial(_by_function, executor, subtask)

    def announce(number: int, error: BaseException) -> None:
        session.emit(ExecutionRetried(stage=stage, number=subtask.number, attempt=number, reason=str(error)))

    if session.failure.mode != "retry":
        return await once()
    return await retried(once, attempts=session.failure.attempts, before_retry=announce)


async def _by_function(executor: ExecutorFunction[Any], subtask: Subtask) -> _Attempt:
    value = executor(subtask)
    if inspect.isawaitable(value):
        value = await value
    return _Attempt(value, as_text(value), None)


async def _by_model(
    session: Session, executor: Executor[Any], branch: State, subtask: Subtask, stage: int, costs: list[CallUsage]
) -> _Attempt:
    number, start = subtask.number, branch.context
    close = session.dialect.execution(stage, number).close
    branch.sampling = executor.sampling or session.sampling
    await branch.append(session.dialect.header(stage, number))
    generation: Generation | None = None
    size = 0
    try:
        async with session.call(
            branch, max_tokens=executor.max_tokens or session.limits.execution_tokens, stops=session.stops.execution
        ) as generation:
            async for chunk in generation:
                if session.listening:
                    session.emit(ExecutorWrote(stage=stage, number=number, text=chunk.text, tokens=len(generation.ids)))
        written = generation.text
        size = overlap(written, close)
    finally:
        branch.context = start  # where another attempt would begin
        if generation is not None:
            tag_tokens = len(generation.ids) - generation.tokens_before(generation.length - size)
            costs.append(usage_of(generation, tag_tokens))
    text = written[: len(written) - size]
    return _Attempt(executor.read(text), text, generation)


def _succeeded(subtask: Subtask, attempt: _Attempt, costs: list[CallUsage]) -> Executed:
    execution = AnyExecution(
        number=subtask.number, prompt=subtask.prompt, text=attempt.text, value=attempt.value, usage=_sum(costs)
    )
    if attempt.generation is None:
        return Executed(execution, None, attempt.text)
    last = costs[-1]
    return Executed(
        execution,
        attempt.generation.ids,
        attempt.generation.text,
        content_tokens=last.generated_tokens - last.tag_tokens,
        all_tokens=execution.usage.generated_tokens,
    )


def _failed(subtask: Subtask, error: Exception, costs: list[CallUsage]) -> Executed:
    failure = Failure.of(error)
    note = f"[failed: {failure.type}: {failure.message.splitlines()[0][:200]}]"
    execution = AnyExecution(number=subtask.number, prompt=subtask.prompt, failure=failure, usage=_sum(costs))
    return Executed(execution, None, note, all_tokens=execution.usage.generated_tokens)


def _sum(costs: Sequence[CallUsage]) -> CallUsage:
    if len(costs) == 1:
        return costs[0]
    return CallUsage(
        calls=len(costs),
        prompt_tokens=sum(cost.prompt_tokens for cost in costs),
        cached_tokens=sum(cost.cached_tokens for cost in costs),
        generated_tokens=sum(cost.generated_tokens for cost in costs),
        tag_tokens=sum(cost.tag_tokens for cost in costs),
        retries=max(0, len(costs) - 1),
    )
