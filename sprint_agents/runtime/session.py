"""What all parts of one run share, and the one way in which a run calls its engine."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from sprint_agents.agents import Executor, ExecutorFunction, Planner
from sprint_agents.budget import Ledger, Limits
from sprint_agents.dialect.protocol import Dialect
from sprint_agents.engine import Engine, Sampling
from sprint_agents.errors import BudgetExceeded, EngineTimeout
from sprint_agents.events import Event
from sprint_agents.plan import FailurePolicy
from sprint_agents.state import Generation, State, Stops
from sprint_agents.usage import CallUsage

Listener = Callable[[Event], object]


@dataclass(frozen=True, slots=True)
class RoleStops:
    """The stops of each role, resolved for the engine's vocabulary."""

    plan: Stops
    execution: Stops
    answer: Stops

    @classmethod
    async def resolve(cls, engine: Engine, dialect: Dialect) -> "RoleStops":
        """Find which of the dialect's stops are single tokens of this engine."""
        return cls(
            plan=await Stops.resolve(engine, dialect.stops.plan),
            execution=await Stops.resolve(engine, dialect.stops.execution),
            answer=await Stops.resolve(engine, dialect.stops.answer),
        )


@dataclass(slots=True)
class Session:
    """The shared parts of one run."""

    engine: Engine
    dialect: Dialect
    stops: RoleStops
    limits: Limits
    ledger: Ledger
    failure: FailurePolicy
    planner: Planner[Any]
    executor: Executor[Any] | ExecutorFunction[Any]
    sampling: Sampling
    listeners: Sequence[Listener]
    gate: AbstractAsyncContextManager[Any]

    def emit(self, event: Event) -> None:
        """Tell every listener; the callers of hot paths ask ``listening`` before they build an event."""
        for listener in self.listeners:
            listener(event)

    @property
    def listening(self) -> bool:
        """Whether anybody would hear an event."""
        return bool(self.listeners)

    def call(self, state: State, *, max_tokens: int, stops: Stops) -> "Call":
        """Stream one completion of ``state``: ``async with session.call(…) as generation``."""
        return Call(self, state, max_tokens, stops)


class Call:
    """One completion within the run's budget and the time for one call; leaving the block ends it at the engine.

    Raises, on entering:
        BudgetExceeded: nothing is left for it; nothing was sent.

    Raises, on leaving:
        EngineTimeout: it took longer than ``limits.call_seconds``.
    """

    __slots__ = ("_generation", "_max_tokens", "_reserved", "_session", "_state", "_stops", "_timeout")

    _generation: Generation
    _timeout: asyncio.Timeout
    _reserved: int

    def __init__(self, session: Session, state: State, max_tokens: int, stops: Stops) -> None:
        self._session = session
        self._state = state
        self._max_tokens = max_tokens
        self._stops = stops

    async def __aenter__(self) -> Generation:
        ledger = self._session.ledger
        self._reserved = await ledger.reserve_tokens(self._max_tokens)
        try:
            ledger.take_call()
        except BudgetExceeded:
            ledger.settle(reserved=self._reserved, used=0)
            raise
        self._timeout = asyncio.timeout(self._session.limits.call_seconds)
        await self._timeout.__aenter__()
        self._generation = self._state.stream(max_tokens=self._reserved, stops=self._stops)
        return self._generation

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._generation.__aexit__(kind, error, trace)
        finally:
            self._session.ledger.settle(reserved=self._reserved, used=len(self._generation.ids))
            await self._stop_clock(kind, error, trace)

    async def _stop_clock(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            engine, seconds = self._session.engine, self._session.limits.call_seconds
            raise EngineTimeout(
                f"{engine.name} did not finish a request in {seconds:g} s: raise Limits(call_seconds=…)"
            ) from error


def usage_of(generation: Generation, tag_tokens: int) -> CallUsage:
    """Book the cost of one finished or broken-off completion."""
    finish = generation.finish
    return CallUsage(
        calls=1,
        prompt_tokens=finish.prompt_tokens if finish else 0,
        cached_tokens=finish.cached_tokens if finish else 0,
        generated_tokens=len(generation.ids),
        tag_tokens=tag_tokens,
    )
