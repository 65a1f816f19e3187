"""How fast a provider may be asked: requests and tokens a minute, and the pauses that it asks for."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from sprint_agents.arguments import at_least

MINUTE = 60.0


@dataclass(slots=True)
class Passage:
    """One request that was let through. ``tokens`` may be corrected once their number is known."""

    at: float
    tokens: int


@dataclass(slots=True, eq=False)
class Pace:
    """Lets requests through in the order in which they come, so that no minute has more than the limits allow.

    ``requests`` and ``tokens`` are limits per minute; None means unlimited. A request counts with its prompt and with
    the tokens that its answer may have, as providers count. A request that is larger than the limit of tokens waits for
    a minute without others. The limits hold for one process: what an earlier process sent is not known.

    >>> async def main() -> float:
    ...     pace, clock = Pace(requests=2), asyncio.get_running_loop().time
    ...     start = clock()
    ...     for _ in range(5):
    ...         await pace.enter(tokens=0)
    ...     return clock() - start
    >>> from sprint_agents.testing import VirtualTimeLoop
    >>> with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
    ...     runner.run(main())
    120.0
    """

    requests: int | None = None
    tokens: int | None = None
    _passages: deque[Passage] = field(default_factory=deque[Passage])
    _order: asyncio.Lock = field(default_factory=asyncio.Lock)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _paused_until: float = 0.0

    def __post_init__(self) -> None:
        at_least(1, **{name: limit for name, limit in self._limits().items() if limit is not None})

    def _limits(self) -> dict[str, int | None]:
        return {"requests": self.requests, "tokens": self.tokens}

    async def enter(self, *, tokens: int) -> Passage:
        """Wait until a request of so many tokens may be sent."""
        clock = asyncio.get_running_loop().time
        async with self._order:
            while (until := self._next(clock(), tokens)) > clock():
                self._changed.clear()
                try:
                    async with asyncio.timeout_at(until):
                        await self._changed.wait()
                except TimeoutError:
                    pass
            passage = Passage(clock(), tokens)
            if self.requests is not None or self.tokens is not None:
                self._passages.append(passage)
            return passage

    def correct(self, passage: Passage, *, tokens: int) -> None:
        """Count a request with the tokens that it had."""
        passage.tokens = tokens
        self._changed.set()

    def pause(self, seconds: float) -> None:
        """Let no request through for so many seconds."""
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + seconds)

    def _next(self, now: float, tokens: int) -> float:
        """Return when a request of so many tokens may be sent, as far as is known now."""
        while self._passages and self._passages[0].at <= now - MINUTE:
            self._passages.popleft()
        requests, total, until = len(self._passages), sum(one.tokens for one in self._passages), now
        # Let the oldest ones leave the minute until this one has room.
        for passage in self._passages:
            fits = self.requests is None or requests < self.requests
            if fits and (self.tokens is None or total + tokens <= self.tokens):
                break
            requests, total, until = requests - 1, total - passage.tokens, passage.at + MINUTE
        return max(until, self._paused_until)
