"""Executors on an engine of their own: the planner's contexts in another vocabulary.

Invariants:

- A context is encoded once for all the branches that share it, piece by piece as it grew, off the planner's path.
- Only text passes between two engines: neither ids nor caches are shared.
"""

import asyncio

from sprint_agents.context import Context
from sprint_agents.engine import Engine, Sampling
from sprint_agents.state import RequestIds, State


class Elsewhere:
    """The engine that executors run on where it is not the planner's."""

    __slots__ = ("_encoded", "_request_ids", "_turn", "engine", "sampling")

    def __init__(self, engine: Engine, *, sampling: Sampling) -> None:
        self.engine = engine
        self.sampling = sampling
        self._encoded: dict[Context, Context] = {}
        self._turn = asyncio.Lock()
        self._request_ids = RequestIds()

    async def branch(self, context: Context) -> State:
        """Make a state on this engine that stands where ``context`` of the planner's ends."""
        async with self._turn:
            return State(
                self.engine, await self._encode(context), sampling=self.sampling, request_ids=self._request_ids
            )

    async def _encode(self, context: Context) -> Context:
        known: Context | None = context
        while known is not None and known not in self._encoded:
            known = known.parent
        start = Context() if known is None else self._encoded[known]
        text = context.text_since(known)
        if text:
            start = start.extend(await self.engine.encode(text), text)
        self._encoded[context] = start
        return start
