"""The prefix that a stage's branches share, which each would compute again if all of them started at once.

An engine such as SGLang caches what a request reads with its first token, but what a request writes only when it has
ended. Branches that start while the planner still writes, or all at once on a policy's plan, find neither in the cache.

Invariants:

- The contexts from which a stage's branches start are prefixes of one another, so a length says what is cached.
- One request at a time reads the prefix for all branches that wait, and none waits for tokens that are in the cache.
- A branch that reads stops reading, whatever ends its request. Then another one does, or the rest finds all there.
- When the planner's request has ended, all of the prefix is in the cache, and no branch waits any more.
- Executors on another engine, or with another adapter on the same server, have another cache. What the planner read or
  wrote is not in it, so one of them reads that for the others, also after the planner's request has ended.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from sprint_agents.context import Context
from sprint_agents.errors import SprintError
from sprint_agents.state import State
from sprint_agents.usage import EngineCall

from .session import Session


@dataclass(slots=True)
class _Waiting:
    """A branch that waits for ``length`` tokens; ``turn`` becomes True if it has to read them for the others."""

    length: int
    turn: asyncio.Future[bool]


@dataclass(slots=True)
class SharedPrefix:
    """The longest context that a stage's branches share, of which ``cached`` tokens are in the engine's cache.

    With ``may_lead``, the branches' own requests begin where the prefix ends, so one of them can read for the others,
    at no cost: the one that has most tokens to read (``Capabilities.caches_contexts``). Otherwise a commit reads, a
    request for no tokens, for the longest context from which a branch is going to start by then.

    Prompts end at tokens 100, 120 and 150, and the first branch reads up to 100. Then the third reads up to 150, and
    the second finds its 120 tokens as soon as the third has its first one. If that request fails, the second reads.
    """

    session: Session
    planner: State
    cached: int
    may_lead: bool = False
    calls: list[EngineCall] = field(default_factory=list[EngineCall])
    _waiting: list[_Waiting] = field(default_factory=list[_Waiting])
    _reading: bool = False
    _page: int = 1
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _longest: Context = field(init=False)
    _apart: bool = field(init=False)
    _complete: bool = field(init=False)

    def __post_init__(self) -> None:
        self._longest = self.planner.context
        engine = self.session.executor_engine
        self._apart = engine is not self.session.engine
        abilities = (engine or self.session.engine).capabilities
        self.may_lead = self.may_lead and abilities.caches_contexts
        self._page = abilities.page_tokens
        # Functions read no context, and a commit would be a request to the planner's engine.
        self._complete = engine is None or abilities.caches_running or (self._apart and not self.may_lead)
        if self._apart:
            self.cached = 0

    def extend(self, context: Context) -> bool:
        """Extend the prefix to where the next branch starts; return whether the branch must wait for its ``turn``."""
        self._longest = context
        return not self._complete

    def complete(self) -> None:
        """Record that the planner's engine has all of the prefix, because the request that wrote it has ended."""
        self._complete = self._complete or not self._apart
        self._elect()

    async def turn(self, length: int) -> "ReadingTurn | None":
        """Wait until the first ``length`` tokens are in the cache, or until the branch has to read them itself."""
        if not self.may_lead:
            await self._commit(length)
            return None
        waiting = _Waiting(length, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        asyncio.get_running_loop().call_soon(self._elect)  # when all branches that start together are waiting
        try:
            reads = await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.result():
                self.stop_reading(0)
            raise
        return ReadingTurn(self, length) if reads else None

    def stop_reading(self, length: int) -> None:
        """Let other branches go, or read; the first ``length`` tokens are in the cache."""
        self._reading = False
        self.cached = max(self.cached, self._whole_pages(length))
        self._elect()

    def _elect(self) -> None:
        """Let those go that find all in the cache, and one that reads for the others."""
        waiting = [one for one in self._waiting if not one.turn.done()]
        for one in waiting:
            if self._complete or self._whole_pages(one.length) <= self.cached:
                one.turn.set_result(False)
        self._waiting = waiting = [one for one in waiting if not one.turn.done()]
        if waiting and not self._reading:
            self._reading = True
            max(waiting, key=lambda one: one.length).turn.set_result(True)

    def _whole_pages(self, length: int) -> int:
        return length - length % self._page

    async def _commit(self, length: int) -> None:
        async with self._lock:
            if not self._complete and length > self.cached:
                target = self._longest
                with suppress(SprintError):  # the branches' own requests then compute it, under their failure policy
                    await self._request(target)
                self.cached = len(target)

    async def _request(self, context: Context) -> None:
        call = self.session.call(self.planner.branch(context), None, max_tokens=0)
        async with call as generation:
            await generation.drain()
        self.calls.append(call.record())


@dataclass(slots=True)
class ReadingTurn:
    """The turn of a branch that reads ``length`` tokens for those that wait."""

    prefix: SharedPrefix
    length: int
    _over: bool = False

    def begun(self) -> None:
        """Record the first token of the branch's request."""
        self._end(self.length)

    def ended(self) -> None:
        """Record the end of the branch, which may have had no token at all."""
        self._end(0)

    def _end(self, cached: int) -> None:
        if not self._over:
            self._over = True
            self.prefix.stop_reading(cached)
