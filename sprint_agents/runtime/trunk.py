"""What the branches of a stage share, computed once before they set out.

An engine such as SGLang has what a request reads in its cache as soon as it is read, but what a request writes only
when it has ended. Branches that start while the planner still writes, or all at once on a plan that no request has
read, would each compute it again. A commit, a request for no tokens, computes it for all who wait.

Invariants:

- The contexts where the branches of a stage start are prefixes of one another, so a length says what is cached.
- One commit runs at a time, for the longest context that any branch will start from by then.
- A commit that fails is left to the branches' own requests, which have a failure policy.
"""

import asyncio
from contextlib import suppress

from sprint_agents.agents import Executor
from sprint_agents.context import Context
from sprint_agents.errors import SprintError
from sprint_agents.state import State, Stops
from sprint_agents.usage import CallUsage

from .session import Session, usage_of


class Trunk:
    """The shared part of one stage's branches, of which ``cached`` tokens are in the engine's cache."""

    __slots__ = ("_cached", "_longest", "_planner", "_session", "_turn", "_whole", "costs")

    def __init__(self, session: Session, planner: State, *, cached: int) -> None:
        self._session = session
        self._planner = planner
        self._longest = planner.context
        self._cached = cached
        self._turn = asyncio.Lock()
        # Other engines share what still runs; a plain function, or a model on another engine, does not read here.
        reads = isinstance(session.executor, Executor) and session.elsewhere is None
        self._whole = not reads or session.engine.capabilities.caches_running
        self.costs: list[CallUsage] = []

    def grow(self, context: Context) -> bool:
        """Take note of where the next branch starts; return whether it has to ``reach`` there first."""
        self._longest = context
        return not self._whole

    def end(self) -> None:
        """Take note that the request that wrote the rest has ended, and the engine has all of it."""
        self._whole = True

    async def reach(self, length: int) -> None:
        """Return when the first ``length`` tokens are in the cache, committed here if need be."""
        async with self._turn:
            if not self._whole and length > self._cached:
                target = self._longest
                with suppress(SprintError):
                    await self._commit(target)
                self._cached = len(target)

    async def _commit(self, context: Context) -> None:
        async with self._session.call(self._planner.branch(context), max_tokens=0, stops=Stops()) as generation:
            async for _ in generation:
                pass
        self.costs.append(usage_of(generation, 0))
