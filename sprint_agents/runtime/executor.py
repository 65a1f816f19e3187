"""Execute one subtask: by a model, a function, a sprint or a nested policy, under the run's failure policy.

``execute`` is called for every subtask of a run. A ``Runner`` says how it is carried out: ``ModelRunner`` and
``FunctionRunner`` here, ``SprintRunner`` in ``nested``, ``PolicyRunner`` in ``loop``.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from sprint_agents.agents import Executor, ExecutorFunction, Planner, as_text
from sprint_agents.context import Context
from sprint_agents.dialects.base import Dialect
from sprint_agents.dialects.completions import Diagnostic
from sprint_agents.engine import Engine, Sampling
from sprint_agents.errors import ExecutionFailed, FunctionError, InvalidResult, PolicyError, describe, message_of
from sprint_agents.events import ExecutionFinished, ExecutionRetried, SubtaskStarted
from sprint_agents.functions import as_exception
from sprint_agents.logs import log
from sprint_agents.plan import Execution, Failure, ToolUse
from sprint_agents.retries import retry
from sprint_agents.state import State
from sprint_agents.usage import CallUsage

from .assignment import Assignment
from .conversation import ExecutorConversation
from .session import Session


@dataclass(slots=True)
class SubtaskOutcome:
    """A finished execution and what the join needs of it.

    Attributes:
        ids: the token ids of the model's completion; None if no model wrote ``text``, or not on the planner's engine.
        text: the completion, stop included; otherwise the text of the result, or of the failure.
        content_tokens: the execution's part of the critical path, without tags and invalid results.
        all_tokens: the same with everything that the execution generated.
        diagnostics: the completions that were cut off.
    """

    execution: Execution[Any]
    ids: Sequence[int] | None
    text: str
    content_tokens: int = 0
    all_tokens: int = 0
    diagnostics: tuple[Diagnostic, ...] = ()

    @classmethod
    def failure(
        cls,
        assignment: Assignment,
        error: Exception,
        *,
        tool_uses: Sequence[ToolUse] = (),
        transcript: str = "",
    ) -> "SubtaskOutcome":
        """Return the outcome of a subtask that failed with ``error``."""
        failure = Failure.of(error)
        text = error.text if isinstance(error, InvalidResult) else ""
        execution = assignment.record(text, failure=failure, tool_uses=tool_uses, transcript=transcript)
        message = f"{failure.type}: {failure.message.splitlines()[0][:200]}"
        return cls(execution, None, message, all_tokens=execution.usage.generated_tokens)


class Runner(ABC):
    """Carries out subtasks; ``gated`` runners count towards the executions that may run at the same time.

    Those with ``uses_tokens`` share the run's budget of tokens. Those that ``leads`` send a request for the context of
    their branch at once, so that other branches may wait for its first token.
    """

    __slots__ = ()

    gated: ClassVar[bool] = True
    uses_tokens: ClassVar[bool] = True
    leads: ClassVar[bool] = False

    @property
    def agent(self) -> Executor[Any] | Planner[Any] | None:
        """The agent that declares the type of the results; None if they may be of any type."""
        return None

    @abstractmethod
    async def run(self, session: Session, assignment: Assignment) -> SubtaskOutcome:
        """Carry out one subtask; what it raises becomes the failure of the execution."""


async def execute(session: Session, runner: Runner, assignment: Assignment) -> SubtaskOutcome:
    """Carry out a subtask within the run's budget; a failure becomes part of the outcome.

    Raises:
        ExecutionFailed: the subtask failed, and the failure policy is ``fail_fast``.
        PolicyError: a nested policy is used wrongly.
    """
    stage, subtask = assignment.stage, assignment.subtask
    try:
        session.ledger.take_subtask()
        async with session.gate if runner.gated else nullcontext():
            assignment.started = at = session.clock.now()
            if session.listening:
                session.emit(
                    SubtaskStarted(
                        run_id=session.run_id, at=at, stage=stage, number=subtask.number, prompt=subtask.prompt
                    )
                )
            if session.hooks is not None:
                call = partial(session.call_function, stage=stage, number=subtask.number)
                await session.hooks.before("before_execution", subtask, call)
            outcome = await runner.run(session, assignment)
    except PolicyError:
        raise  # a mistake in the program, not in what the model wrote
    except BaseException as raised:
        error = as_exception(raised)
        if session.failure.mode == "fail_fast":
            raise ExecutionFailed(f"subtask {stage}.{subtask.number} failed: {message_of(error)}") from error
        outcome = SubtaskOutcome.failure(assignment, error)
    if outcome.execution.failure is not None:
        log("warning", "execution.failed", error=outcome.execution.failure)
    if session.listening:
        execution = outcome.execution
        session.emit(ExecutionFinished(**session.stamp(), stage=stage, execution=execution))
    return outcome


@dataclass(frozen=True, slots=True)
class ModelRunner(Runner):
    """Has a model carry out subtasks: on the planner's engine, or on another one with the contexts ``remote``."""

    leads: ClassVar[bool] = True

    executor: Executor[Any]
    remote: "RemoteContexts | None" = None

    @property
    def agent(self) -> Executor[Any]:
        """The executor."""
        return self.executor

    async def run(self, session: Session, assignment: Assignment) -> SubtaskOutcome:
        """Converse with the model until it gives a valid result."""
        subtask, branch = assignment.subtask, assignment.branch
        if self.remote is not None:
            assignment.branch = branch = await self.remote.branch(branch, session.dialect)
        else:
            asked = session.attempts.logprobs if session.attempts else None
            branch.sampling = (self.executor.sampling or session.sampling).with_logprobs(asked)
        conversation = ExecutorConversation(session, self.executor, assignment, branch.context)
        header = session.dialect.write_header(assignment.stage, subtask.number, inputs=bool(subtask.inputs))
        await branch.append(header)
        try:
            try:
                value = await conversation.result()
            except InvalidResult as invalid:
                value = await conversation.correct(invalid)
        except Exception as error:
            if session.failure.mode == "fail_fast":
                raise
            uses, transcript = conversation.uses, conversation.transcript
            return SubtaskOutcome.failure(assignment, error, tool_uses=uses, transcript=transcript)
        uses, transcript = conversation.uses, conversation.transcript
        execution = assignment.record(conversation.text, value, tool_uses=uses, transcript=transcript)
        text, ids = conversation.turn_text, conversation.completion.ids
        if self.remote is not None:  # the ids are in another vocabulary
            text = session.dialect.write_completion(assignment.stage, subtask.number, text)
            ids = await session.engine.encode(text)
        return SubtaskOutcome(execution, ids, text, conversation.content_tokens, execution.usage.generated_tokens)


@dataclass(frozen=True, slots=True)
class FunctionRunner(Runner):
    """Has a function carry out subtasks; it declares no type."""

    uses_tokens: ClassVar[bool] = False

    function: ExecutorFunction[Any]

    async def run(self, session: Session, assignment: Assignment) -> SubtaskOutcome:
        """Call the function, for at most ``limits.call_seconds``; again after a retryable error under ``retry``."""
        return await run_program(session, assignment, self._call)

    async def _call(self, session: Session, assignment: Assignment) -> SubtaskOutcome:
        try:
            subtask = assignment.subtask
            value = await session.call_function(self.function, subtask, stage=assignment.stage, number=subtask.number)
        except PolicyError as error:  # of a run that the function made
            raise FunctionError(f"it raised {describe(error)}") from error
        if isinstance(value, Iterator):
            raise FunctionError("it returned an iterator, which can be read only once: return a list")
        text = as_text(value)
        if isinstance(value, str):
            value = text
        return SubtaskOutcome(assignment.record(text, value), None, text)


async def run_program(
    session: Session, assignment: Assignment, program: Callable[[Session, Assignment], Awaitable[SubtaskOutcome]]
) -> SubtaskOutcome:
    """Carry out a subtask by a function or a sprint, again after a retryable error under ``retry``."""
    failure = session.failure

    def announce(attempt: int, error: BaseException) -> None:
        session.ledger.note_retries()
        assignment.costs += (CallUsage(retries=1),)
        session.emit(
            ExecutionRetried(
                **session.stamp(),
                stage=assignment.stage,
                number=assignment.subtask.number,
                attempt=attempt,
                reason=message_of(error),
            )
        )

    if failure.mode != "retry":
        return await program(session, assignment)
    return await retry(lambda: program(session, assignment), attempts=failure.attempts, before_retry=announce)


class RemoteContexts:
    """The planner's contexts on the executors' own engine, in its vocabulary.

    Only text passes between the two engines: they share neither ids nor caches. Each context is encoded once for all
    branches that share it, piece by piece as it grew.
    """

    __slots__ = ("_encoded", "_engine", "_lock", "_sampling")

    def __init__(self, engine: Engine, *, sampling: Sampling) -> None:
        self._engine = engine
        self._sampling = sampling
        self._encoded: dict[Context, Context] = {}
        self._lock = asyncio.Lock()

    async def branch(self, branch: State, dialect: Dialect) -> State:
        """Return a state on the executors' engine that continues the context of a ``branch`` of the planner."""
        async with self._lock:
            encoded = await self._encode(branch.context, dialect)
        return branch.on(self._engine, encoded, sampling=self._sampling)

    async def _encode(self, context: Context, dialect: Dialect) -> Context:
        known: Context | None = context
        while known is not None and known not in self._encoded:
            known = known.parent
        start = Context() if known is None else self._encoded[known]
        if text := context.marked_text_since(known, dialect.mark):
            start = start.extend(await self._engine.encode(text), text)
        self._encoded[context] = start
        return start
