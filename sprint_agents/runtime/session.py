"""The state that all parts of one run share, and the one way in which a run calls its engine.

One timer ends the engine calls of a run that take too long. ``asyncio.timeout`` would do the same with a timer for each
call, but in a fan-out of thousands of quick calls those timers are a tenth of the library's overhead.

Invariants:

- A call reserves its tokens before its request is sent, and settles what it used when its block is left.
- All calls have the same time limit, so they are due in the order in which they began.
- No timer is left when no call is running, and a finished call is never cancelled.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from sprint_agents.agents import Planner
from sprint_agents.budget import Ledger, Limits
from sprint_agents.context import Context
from sprint_agents.dialects.base import Dialect, Role, ToolBrief
from sprint_agents.engine import Engine, Sampling
from sprint_agents.errors import BudgetExceeded, EngineTimeout
from sprint_agents.events import Event
from sprint_agents.functions import Threads, call_function
from sprint_agents.generation import Generation
from sprint_agents.plan import Execution, Failure, FailurePolicy, Stage, Subtask, ToolUse
from sprint_agents.state import State, Stops
from sprint_agents.usage import CallUsage

Listener = Callable[[Event], object]
"""A function that receives each event of a run."""

AnyExecution = Execution[Any]
"""Named once, because pydantic looks a parametrised model up each time it is written."""


@dataclass(slots=True)
class Assignment:
    """A subtask of ``stage`` to carry out on ``branch``, the context up to the end of its prompt and its inputs.

    ``costs`` gets an item for each request as it ends, interrupted ones too, so that they are known even if the task is
    cancelled.
    """

    stage: int
    subtask: Subtask
    branch: State
    costs: list[CallUsage]

    def record(
        self,
        text: str,
        value: Any = None,
        *,
        failure: Failure | None = None,
        stages: Sequence[Stage[Any]] = (),
        tool_uses: Sequence[ToolUse] = (),
        transcript: str = "",
    ) -> Execution[Any]:
        """Return the record of the finished execution, with the cost of its requests."""
        execution = AnyExecution(
            number=self.subtask.number,
            prompt=self.subtask.prompt,
            text=text,
            value=value,
            failure=failure,
            usage=CallUsage.sum(self.costs),
            tool_uses=tuple(tool_uses),
            transcript=transcript,
        )
        return execution.model_copy(update={"stages": tuple(stages)}) if stages else execution


@dataclass(frozen=True, slots=True)
class EnclosingExecution:
    """The execution that a nested policy writes, ``number`` of ``stage``; ``start`` is the end of its header."""

    stage: int
    number: int
    start: Context


@dataclass(slots=True)
class Session:
    """The shared parts of one run, or of a nested policy within it.

    Attributes:
        executor_engine: the engine of the model that executes subtasks; None if no model does.
        stops: where the completions of each role end, in the vocabulary of its engine.
        gate: limits how many executions run at the same time.
        planner_gate: what the planner's own requests wait for; only nested planners pass the ``gate``.
        threads: in which sync functions run.
        enclosing: the execution that a nested policy writes; None for the run itself.
        listening: whether there are listeners; if not, hot paths build no events.
    """

    engine: Engine
    executor_engine: Engine | None
    dialect: Dialect
    stops: Mapping[Role, Stops]
    limits: Limits
    ledger: Ledger
    failure: FailurePolicy
    planner: Planner[Any]
    sampling: Sampling
    listeners: Sequence[Listener]
    gate: AbstractAsyncContextManager[Any]
    planner_gate: AbstractAsyncContextManager[Any] = field(default_factory=nullcontext[None])
    threads: Threads = field(default_factory=Threads)
    enclosing: EnclosingExecution | None = None
    listening: bool = field(init=False)
    timer: "CallTimer" = field(init=False)
    tools: tuple[ToolBrief, ...] = field(init=False)
    _execution_schema: str | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.listening = bool(self.listeners)
        self.timer = CallTimer(self.limits.call_seconds)
        self.tools = self.dialect.constraints("execution").tools
        self._execution_schema = self._schema("execution", self.executor_engine)

    def emit(self, event: Event) -> None:
        """Pass an event to every listener."""
        for listener in self.listeners:
            listener(event)

    def call(self, state: State, role: Role | None, *, max_tokens: int, schema: str | None = None) -> "MeteredCall":
        """Stream a completion of ``state``, ``async with session.call(…) as generation``; a commit has no role."""
        return MeteredCall(self, state, role, max_tokens, schema)

    async def call_function(self, function: Callable[..., Any], value: object) -> Any:
        """Call a user's function, async or not, within ``limits.call_seconds``.

        Raises:
            FunctionError: it took longer, or ended in a way that would end more than the call.
            Exception: whatever else it raised.
        """
        return await call_function(function, value, threads=self.threads, seconds=self.limits.call_seconds)

    def schema(self, role: Role) -> str | None:
        """Return the JSON schema for the completions of a role; None if they are free text.

        A nested policy's planner is free, since its completion may also be the result of the enclosing execution.
        """
        if role == "execution":
            return self._execution_schema
        return None if self.enclosing else self._schema(role, self.engine)

    def _schema(self, role: Role, engine: Engine | None) -> str | None:
        return self.dialect.constraints(role).schema if engine and engine.capabilities.schemas else None


async def resolve_stops(dialect: Dialect, engine: Engine, executor_engine: Engine | None) -> dict[Role, Stops]:
    """Resolve where the completions of each role end, in the vocabulary of its engine."""
    engines: dict[Role, Engine] = {"plan": engine, "execution": executor_engine or engine, "answer": engine}
    return {role: await Stops.resolve(engine, dialect.constraints(role).stops) for role, engine in engines.items()}


class CallTimer:
    """Cancels the task of every call that takes longer than ``seconds``."""

    __slots__ = ("_calls", "_handle", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None
        self._calls: dict[TimedCall, None] = {}

    def start(self, call: "TimedCall") -> None:
        """Start the time of a call that the current task makes."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        call.task, call.cancelling = task, task.cancelling()
        call.due = loop.time() + self._seconds
        call.expired = False
        self._calls[call] = None
        if self._handle is None:
            self._handle = loop.call_at(call.due, self._ring)

    def stop(self, call: "TimedCall", kind: type[BaseException] | None) -> bool:
        """End the time of a call that leaves its block by an exception of ``kind``; return whether it took too long.

        As with ``asyncio.timeout``, a task that was cancelled from outside as well stays cancelled.
        """
        del self._calls[call]
        if not self._calls and self._handle is not None:
            self._handle.cancel()
            self._handle = None
        return call.expired and call.task.uncancel() <= call.cancelling and kind is asyncio.CancelledError

    def _ring(self) -> None:
        # Calls are in the order in which they are due, so the first one that is due later sets the next alarm. With
        # 10 s each, calls that began at 0, 4 and 5 s: at 10 s the first is cancelled and the alarm set to 14 s.
        self._handle = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for call in self._calls:
            if call.due > now:
                self._handle = loop.call_at(call.due, self._ring)
                return
            if not call.expired:
                call.expired = True
                call.task.cancel()


class TimedCall:
    """A call under a ``CallTimer``: the task that makes it, and the loop time at which it is due."""

    __slots__ = ("cancelling", "due", "expired", "task")

    task: asyncio.Task[Any]
    cancelling: int
    due: float
    expired: bool


class MeteredCall(TimedCall):
    """One engine call within the run's budget and time limit; leaving the block aborts it at the engine.

    Raises, on entering:
        BudgetExceeded: the budget has nothing left for the call; no request was sent.

    Raises, on leaving:
        EngineTimeout: the call took longer than ``limits.call_seconds``.
    """

    __slots__ = ("_generation", "_max_tokens", "_reserved", "_role", "_schema", "_session", "_state")

    _generation: Generation
    _reserved: int

    def __init__(self, session: Session, state: State, role: Role | None, max_tokens: int, schema: str | None) -> None:
        self._session = session
        self._state = state
        self._role: Role | None = role
        self._max_tokens = max_tokens
        self._schema = schema

    async def __aenter__(self) -> Generation:
        session, ledger = self._session, self._session.ledger
        unbound = ledger.tokens_left is None
        self._reserved = reserved = self._max_tokens if unbound else await ledger.reserve_tokens(self._max_tokens)
        try:
            ledger.take_call()
        except BudgetExceeded:
            ledger.settle(reserved=reserved, used=0)
            raise
        session.timer.start(self)
        self._generation = self._state.stream(
            max_tokens=reserved,
            stops=session.stops[self._role] if self._role else None,
            schema=self._schema,
            tools=session.tools,
            may_call=self._role == "execution",
        )
        return self._generation

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, generation = self._session, self._generation
        try:
            await generation.__aexit__(kind, error, trace)
        except asyncio.CancelledError as cancelled:  # while the request was being closed
            kind, error = type(cancelled), cancelled
            raise
        finally:
            session.ledger.settle(reserved=self._reserved, used=generation.tokens)
            if session.timer.stop(self, kind):
                raise EngineTimeout(
                    f"{self._state.engine.name} did not finish a request in {session.limits.call_seconds:g} s: "
                    "raise Limits(call_seconds=…)"
                ) from error


def usage_of(generation: Generation, tag_tokens: int, *, retries: int = 0) -> CallUsage:
    """Return the cost of one completion, finished or interrupted; ``retries`` is 1 if it repeats a failed one."""
    finish = generation.finish
    return CallUsage(
        calls=1,
        prompt_tokens=finish.prompt_tokens if finish else 0,
        cached_tokens=finish.cached_tokens if finish else 0,
        generated_tokens=generation.tokens,
        tag_tokens=tag_tokens,
        retries=retries,
    )
