"""What all parts of one run share, and the one way in which a run calls its engine."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sprint_agents.agents import Executor, ExecutorFunction, Planner
from sprint_agents.budget import Ledger, Limits
from sprint_agents.dialect.tags import Tags
from sprint_agents.engine import Engine, Sampling
from sprint_agents.errors import EngineTimeout
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
    async def resolve(cls, engine: Engine, tags: Tags) -> "RoleStops":
        """Find which of the dialect's stops are single tokens of this engine."""
        return cls(
            plan=await Stops.resolve(engine, tags.stops.plan),
            execution=await Stops.resolve(engine, tags.stops.execution),
            answer=await Stops.resolve(engine, tags.stops.answer),
        )


@dataclass(slots=True)
class Session:
    """The shared parts of one run."""

    engine: Engine
    tags: Tags
    question: str
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

    @asynccontextmanager
    async def call(self, state: State, *, max_tokens: int, stops: Stops) -> AsyncGenerator[Generation]:
        """Stream one completion of ``state`` within the run's budget and the time for one call.

        Raises:
            BudgetExceeded: nothing is left for it; nothing was sent.
            EngineTimeout: it took longer than ``limits.call_seconds``; it is aborted.
        """
        reserved = await self.ledger.reserve_tokens(max_tokens)
        generation: Generation | None = None
        timeout = asyncio.timeout(self.limits.call_seconds)
        try:
            self.ledger.take_call()
            async with (
                timeout,
                state.stream(max_tokens=reserved, stops=stops) as generation,
            ):
                yield generation
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise EngineTimeout(
                f"{self.engine.name} did not finish a request in {self.limits.call_seconds:g} s: "
                "raise Limits(call_seconds=…)"
            ) from error
        finally:
            self.ledger.settle(reserved=reserved, used=len(generation.ids) if generation else 0)


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
