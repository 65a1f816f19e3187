"""The state that all parts of one run share, and the one way in which a run calls its engine.

Invariants:

- A call reserves its tokens before its request is sent, and settles what it used when its block is left. Where tokens
  are scarce, it reserves a share and continues when that is used. It holds none while it waits.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from sprint_agents.agents import Planner
from sprint_agents.budget import LEAST_SHARE, Ledger, Limits
from sprint_agents.confidence import ConfidenceWatch
from sprint_agents.context import Context
from sprint_agents.dialects.base import Dialect, Role, ToolBrief
from sprint_agents.engine import Engine, Hints, Sampling, Thoughts
from sprint_agents.errors import BudgetExceeded, EngineTimeout
from sprint_agents.events import BudgetAwaited, Event
from sprint_agents.functions import Threads, call_function
from sprint_agents.generation import Generation
from sprint_agents.hooks import PendingRequest
from sprint_agents.logs import log
from sprint_agents.plan import Attempts, FailurePolicy
from sprint_agents.run_context import RunContext, takes_context
from sprint_agents.settles import Settles
from sprint_agents.state import State, Stops
from sprint_agents.steering import Steering
from sprint_agents.usage import CallUsage, EngineCall

from .clock import AnswerTime, RunClock, Stamp
from .gate import Gate
from .hook_calls import HookCalls
from .listeners import Listener, takers, takes_texts
from .options import PlanReview, RunInputs
from .timer import CallTimer, TimedCall

_MORE_AT_ONCE = "raise Budget(tokens=…), or lower the tokens in Limits, so that more requests run at the same time"


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
        run_id: names the run in its events; ``clock`` has their times.
        task: as the caller wrote it; ``inputs`` are what else the caller gave.
        answer_time: the end of the budget's time, if it is kept for the answer.
        hooks: called around all parts; ``review`` sees plans, ``steering`` speaks to the planner.
        shift: by how much the number of a step exceeds that of its plan in the context.
        executor_engine: the engine of the model that executes subtasks; None if no model does.
        stops: where the completions of each role end, in its engine's vocabulary.
        gate: limits how many executions run at the same time; of planners, only nested ones pass it (``planner_gate``).
        enclosing: the execution that a nested policy writes; None for the run itself.
        settles: what settles the stages of the model's plans, where a policy says nothing else.
        attempts: the step whose attempt a nested policy makes, if it makes one.
        listening: whether there are listeners; if not, hot paths build no events. ``reading``: for texts.
        interrupts: whether executions may be interrupted while the run continues, so that their cost so far counts.
        known_ends: the tokens of what executors' completions begin and end with, by its text. ``whole`` says whether
            an executor's completion may arrive whole (``Request.whole``).
    """

    run_id: str
    clock: RunClock
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
    answer_time: AnswerTime | None = None
    task: str = ""
    inputs: RunInputs = field(default_factory=RunInputs)
    hooks: HookCalls | None = None
    review: PlanReview | None = None
    steering: Steering | None = None
    shift: int = 0
    enclosing: EnclosingExecution | None = None
    settles: Settles | None = None
    attempts: Attempts | None = None
    interrupts: bool = False
    known_ends: dict[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    listening: bool = field(init=False)
    reading: bool = field(init=False)
    bounded: bool = field(init=False)
    whole: bool = field(init=False)
    timer: CallTimer = field(init=False)
    tools: tuple[ToolBrief, ...] = field(init=False)
    thoughts: Thoughts = field(init=False)
    _execution_schema: str | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.listening = bool(self.listeners)
        self.reading = any(map(takes_texts, self.listeners))
        self.bounded = self.ledger.tokens_left is not None
        self.whole = not (self.reading or self.bounded or self.interrupts)
        self.timer = CallTimer(self.limits.call_seconds)
        self.tools = self.dialect.constraints("execution").tools
        self.thoughts = self.dialect.constraints("execution").thoughts
        self._execution_schema = self._schema("execution", self.executor_engine)

    def stamp(self) -> Stamp:
        """Return the run and the time of an event that happens now."""
        return {"run_id": self.run_id, "at": self.clock.now()}

    def emit(self, event: Event) -> None:
        """Pass an event to every listener that takes it."""
        for listener in takers(event, self.listeners):
            listener(event)

    def call(
        self,
        state: State,
        role: Role | None,
        *,
        max_tokens: int,
        schema: str | None = None,
        stage: int = 0,
        number: int | None = None,
        begun: Callable[[], object] | None = None,
    ) -> "MeteredCall":
        """Stream a completion of ``state``, ``async with session.call(…) as generation``; a commit has no role.

        ``stage`` and ``number`` say which part of the run it belongs to. ``begun`` is called with its first token.
        """
        return MeteredCall(self, state, role, max_tokens, schema, stage, number, begun)

    def context(self, stage: int | None = None, number: int | None = None) -> RunContext[Any]:
        """Return what a user's function reads of the run, for the plan with the number ``stage`` in the context."""
        stage = None if stage is None else stage + self.shift
        return self.inputs.context(self.run_id, self.task, stage=stage, number=number)

    async def call_function(
        self, function: Callable[..., Any], value: object, *, stage: int | None = None, number: int | None = None
    ) -> Any:
        """Call a user's function, async or not, within ``limits.call_seconds``.

        It gets the ``RunContext`` first, if it takes one, for this ``stage`` and subtask ``number``.

        Raises:
            FunctionError: it took longer, or ended in a way that would end more than the call.
            Exception: whatever else it raised.
        """
        values = (self.context(stage, number), value) if takes_context(function) else (value,)
        return await call_function(function, *values, threads=self.threads, seconds=self.limits.call_seconds)

    def lend_place(self) -> AbstractAsyncContextManager[None]:
        """Give the place of the running execution to another one, for a block that waits for a person."""
        return self.gate.lend() if isinstance(self.gate, Gate) else nullcontext()

    def schema(self, role: Role) -> str | None:
        """Return the JSON schema for the completions of a role; None if they are free text.

        A nested policy's planner is free, since its completion may also be the result of the enclosing execution.
        """
        if role == "execution":
            return self._execution_schema
        return None if self.enclosing else self._schema(role, self.engine)

    def _schema(self, role: Role, engine: Engine | None) -> str | None:
        return self.dialect.constraints(role).schema if engine and engine.capabilities.schemas else None


class MeteredCall(TimedCall):
    """One engine call within the run's budget and time limit; leaving the block aborts it at the engine.

    It ``started`` when its block was entered, and ``ended`` when that was left, on the run's clock.

    Raises, on entering:
        BudgetExceeded: the budget has nothing left for the call; no request was sent.

    Raises, on leaving:
        EngineTimeout: the call took longer than ``limits.call_seconds``.
    """

    __slots__ = (
        "_begun",
        "_booked",
        "_generation",
        "_max_tokens",
        "_number",
        "_planning",
        "_reserved",
        "_role",
        "_schema",
        "_session",
        "_stage",
        "_state",
        "_waited",
        "ended",
        "started",
    )

    _generation: Generation
    started: float
    ended: float

    def __init__(
        self,
        session: Session,
        state: State,
        role: Role | None,
        max_tokens: int,
        schema: str | None,
        stage: int,
        number: int | None,
        begun: Callable[[], object] | None,
    ) -> None:
        self._session = session
        self._state = state
        self._role: Role | None = role
        self._max_tokens = max_tokens
        self._schema = schema
        self._stage = stage
        self._number = number
        self._begun = begun
        # What the active request reserved, None while the call waits; and how many tokens were settled before.
        self._reserved: int | None = None
        self._booked = 0
        self._planning = False
        self._waited = 0.0

    async def __aenter__(self) -> Generation:
        session, limit = self._session, self._max_tokens
        if session.hooks is not None:
            await session.hooks.before("before_request", self._pending, self._call_hook)
        self.started = session.clock.now()
        if session.bounded:
            limit = await self._begin_within_budget()
            self._waited = session.clock.now() - self.started
        else:
            session.ledger.take_call()
            self._reserved = limit
        session.timer.start(self)
        self._generation = self._state.stream(
            max_tokens=limit,
            stops=session.stops[self._role] if self._role else None,
            schema=self._schema,
            tools=session.tools,
            may_call=self._role == "execution",
            thoughts=session.thoughts if self._role else "none",
            extend=self._extend if limit < self._max_tokens and self._state.engine.capabilities.continues else None,
            whole=session.whole and self._role == "execution",
            hints=Hints(
                run=self._state.run,
                stage=self._stage,
                branch=self._number,
                critical=self._role != "execution" or self._begun is not None,
            ),
        )
        self._generation.begun = self._begun
        if session.attempts is not None and session.attempts.bound and self._role != "execution":
            self._generation.watch = ConfidenceWatch(session.attempts.bound)
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
            self.ended = session.clock.now()
            self._settle(generation.tokens)
            if generation.retries:
                session.ledger.note_retries(generation.retries)
            if self._planning:
                session.ledger.end_plan()
            if session.timer.stop(self, kind):
                raise EngineTimeout(
                    f"{self._state.engine.name} did not finish a request in {session.limits.call_seconds:g} s: "
                    "raise Limits(call_seconds=…)"
                ) from error
        if session.hooks is not None and kind is None:
            stage, number = self._stage + session.shift, self._number
            await session.hooks.after("after_request", self.record(), self._call_hook, stage=stage, number=number)

    @property
    def _pending(self) -> PendingRequest:
        return PendingRequest(self._role or "prefix", len(self._state.context), self._max_tokens)

    async def _call_hook(self, hook: Callable[..., Any], value: object) -> Any:
        return await self._session.call_function(hook, value, stage=self._stage, number=self._number)

    def record(self, tag_tokens: int = 0, *, retries: int = 0) -> EngineCall:
        """Return the record of the call, finished or interrupted; ``retries`` is 1 if it repeats a failed one.

        The requests that the engine itself had to send again are added.
        """
        session, generation = self._session, self._generation
        request_ids = tuple(generation.request_ids)
        usage = CallUsage(
            calls=len(request_ids),
            prompt_tokens=generation.prompt_tokens,
            cached_tokens=generation.cached_tokens,
            generated_tokens=generation.tokens,
            tag_tokens=tag_tokens,
            reasoning_tokens=generation.reasoning_tokens(session.thoughts) if self._role else 0,
            retries=retries + generation.retries,
        )
        return EngineCall(
            role=self._role or "prefix",
            request_ids=request_ids,
            started=self.started,
            ended=self.ended,
            waited=self._waited,
            usage=usage,
        )

    async def _begin_within_budget(self) -> int:
        if self._role == "plan":
            self._planning = True
            self._session.ledger.begin_plan()
        try:
            limit = await self._reserve(self._max_tokens, written=0)
            self._take_call(limit)
        except BaseException:
            if self._planning:
                self._session.ledger.end_plan()
            raise
        return limit

    async def _extend(self) -> int:
        """Reserve more tokens for a completion that has used its share; return 0 if the budget has none."""
        timer, tokens = self._session.timer, self._generation.tokens
        self._settle(tokens)
        if tokens >= self._max_tokens:
            return 0
        timer.pause(self)
        paused = self._session.clock.now()
        try:
            granted = await self._reserve(self._max_tokens - tokens, written=tokens)
            self._take_call(granted)
        except BudgetExceeded:
            return 0
        finally:
            self._waited += self._session.clock.now() - paused
            timer.resume(self)
        return granted

    async def _reserve(self, wanted: int, *, written: int) -> int:
        """Reserve a share where the engine can continue the completion, and otherwise all that it may need."""
        ledger = self._session.ledger
        may_continue = wanted > 0 and self._state.engine.capabilities.continues and ledger.may_continue
        least = LEAST_SHARE if may_continue else None
        return await ledger.reserve_tokens(wanted, least=least, written=written, waits=lambda: self._announce(wanted))

    def _take_call(self, reserved: int) -> None:
        ledger = self._session.ledger
        try:
            ledger.take_call()
        except BudgetExceeded:
            ledger.settle(reserved=reserved, used=0)
            raise
        self._reserved = reserved

    def _settle(self, tokens: int) -> None:
        """Settle what the completion has used since the last time, of which there are ``tokens`` so far."""
        if self._reserved is not None:
            self._session.ledger.settle(reserved=self._reserved, used=tokens - self._booked)
            self._reserved, self._booked = None, tokens

    def _announce(self, wanted: int) -> None:
        """Report that the call waits until others have returned tokens."""
        session, left = self._session, self._session.ledger.tokens_left or 0
        if session.ledger.note_wait():
            log("warning", "waiting for budget", wanted=wanted, left=left, advice=_MORE_AT_ONCE)
        if session.listening:
            event = BudgetAwaited(
                **session.stamp(),
                stage=self._stage,
                number=self._number,
                wanted=wanted,
                left=left,
            )
            session.emit(event)
