"""What all parts of one run share, and the one way in which a run calls its engine."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sprint_agents.agents import Executor, ExecutorFunction, Planner
from sprint_agents.budget import Ledger, Limits
from sprint_agents.context import Context
from sprint_agents.dialects.base import Dialect, Role
from sprint_agents.engine import Engine, Sampling
from sprint_agents.errors import BudgetExceeded, EngineTimeout
from sprint_agents.events import Event
from sprint_agents.generation import Generation
from sprint_agents.plan import FailurePolicy
from sprint_agents.state import State, Stops
from sprint_agents.usage import CallUsage

from .elsewhere import Elsewhere
from .watch import Watch, Watched

if TYPE_CHECKING:
    from .inner import InnerSprint

Listener = Callable[[Event], object]
"""A function that receives each event of a run."""


@dataclass(frozen=True, slots=True)
class RoleStops:
    """The stops of each role, resolved for the vocabulary of its engine."""

    plan: Stops
    execution: Stops
    answer: Stops

    @classmethod
    async def resolve(cls, engine: Engine, dialect: Dialect, *, executor: Engine | None = None) -> "RoleStops":
        """Find which of the dialect's stops are single tokens of this engine, or of the ``executor``'s own."""
        return cls(
            plan=await Stops.resolve(engine, dialect.constraints("plan").stops),
            execution=await Stops.resolve(executor or engine, dialect.constraints("execution").stops),
            answer=await Stops.resolve(engine, dialect.constraints("answer").stops),
        )


@dataclass(slots=True)
class Inside:
    """The execution that a nested policy writes, ``number`` of ``stage``; ``start`` is the context behind its header.

    ``words`` are the last completion, if that was the ``result``.
    """

    stage: int
    number: int
    start: Context
    words: Generation | None = None
    result: str | None = None


@dataclass(slots=True)
class Session:
    """The shared parts of one run; of a nested policy, those of its own part of it.

    ``gate`` bounds the executions under way. ``turn`` is what a planner's own requests wait for: nothing, but the gate
    for nested ones. ``elsewhere`` is where executors run, if they have an engine of their own.
    """

    engine: Engine
    dialect: Dialect
    stops: RoleStops
    limits: Limits
    ledger: Ledger
    failure: FailurePolicy
    planner: Planner[Any]
    executor: "Executor[Any] | ExecutorFunction[Any] | InnerSprint"
    sampling: Sampling
    listeners: Sequence[Listener]
    gate: AbstractAsyncContextManager[Any]
    turn: AbstractAsyncContextManager[Any] = field(default_factory=nullcontext[None])
    inside: Inside | None = None
    elsewhere: Elsewhere | None = None
    listening: bool = field(init=False)
    watch: Watch = field(init=False)
    _schemas: Mapping[Role, str | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.listening = bool(self.listeners)
        self.watch = Watch(self.limits.call_seconds)
        executors = self.engine if self.elsewhere is None else self.elsewhere.engine
        engines: dict[Role, Engine] = {"plan": self.engine, "execution": executors, "answer": self.engine}
        self._schemas = {
            role: self.dialect.constraints(role).schema if engine.capabilities.schemas else None
            for role, engine in engines.items()
        }

    def emit(self, event: Event) -> None:
        """Tell every listener; hot paths build an event only where somebody is ``listening``."""
        for listener in self.listeners:
            listener(event)

    def call(
        self, state: State, *, max_tokens: int, stops: Stops, schema: str | None = None, may_call: bool = False
    ) -> "Call":
        """Stream one completion of ``state``: ``async with session.call(…) as generation``.

        It is held to ``schema``, that of its role. ``may_call`` lets it call the run's tools, where the dialect leaves
        calls to the engine.
        """
        return Call(self, state, max_tokens, stops, schema, may_call)

    def schema(self, role: Role) -> str | None:
        """Return the JSON schema that what a role writes is held to; None where its engine cannot do that."""
        return self._schemas[role]


class Call(Watched):
    """One completion within the run's budget and the time for one call; leaving the block ends it at the engine.

    Raises, on entering:
        BudgetExceeded: nothing is left for it; nothing was sent.

    Raises, on leaving:
        EngineTimeout: it took longer than ``limits.call_seconds``.
    """

    __slots__ = ("_generation", "_max_tokens", "_may_call", "_reserved", "_schema", "_session", "_state", "_stops")

    _generation: Generation
    _reserved: int

    def __init__(
        self, session: Session, state: State, max_tokens: int, stops: Stops, schema: str | None, may_call: bool
    ) -> None:
        self._session = session
        self._state = state
        self._max_tokens = max_tokens
        self._stops = stops
        self._schema = schema
        self._may_call = may_call

    async def __aenter__(self) -> Generation:
        ledger = self._session.ledger
        unbound = ledger.tokens_left is None
        self._reserved = reserved = self._max_tokens if unbound else await ledger.reserve_tokens(self._max_tokens)
        try:
            ledger.take_call()
        except BudgetExceeded:
            ledger.settle(reserved=reserved, used=0)
            raise
        self._session.watch.start(self)
        self._generation = self._state.stream(
            max_tokens=reserved,
            stops=self._stops,
            schema=self._schema,
            tools=self._session.dialect.constraints("execution").tools,
            may_call=self._may_call,
        )
        return self._generation

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, generation = self._session, self._generation
        try:
            await generation.__aexit__(kind, error, trace)
        except asyncio.CancelledError as cancelled:  # while it was being closed
            kind, error = type(cancelled), cancelled
            raise
        finally:
            session.ledger.settle(reserved=self._reserved, used=generation.tokens)
            if session.watch.stop(self, kind):
                raise EngineTimeout(
                    f"{self._state.engine.name} did not finish a request in {session.limits.call_seconds:g} s: "
                    "raise Limits(call_seconds=…)"
                ) from error


def usage_of(generation: Generation, tag_tokens: int, *, retries: int = 0) -> CallUsage:
    """Book the cost of one finished or broken-off completion; ``retries`` is 1 if it stands in for another."""
    finish = generation.finish
    return CallUsage(
        calls=1,
        prompt_tokens=finish.prompt_tokens if finish else 0,
        cached_tokens=finish.cached_tokens if finish else 0,
        generated_tokens=generation.tokens,
        tag_tokens=tag_tokens,
        retries=retries,
    )
