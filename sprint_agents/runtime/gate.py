"""The places for executions under ``Limits.concurrency``, or in a stage that may end early.

Invariant: however an execution ends, its place is free once more exactly once, also if it ends while it has lent it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any


class Gate(asyncio.Semaphore):
    """At most so many executions at a time; one that waits for a person lends its place to another."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self.places = places
        """How many there are, free or not."""
        self._lent: set[asyncio.Task[Any] | None] = set()

    def widen(self, places: int) -> None:
        """Add places until there are ``places``; there are never fewer than before."""
        while self.places < places:
            self.places += 1
            self.release()

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[None]:
        """Give the place of the running task to others until the block ends, and wait for one again."""
        task = asyncio.current_task()
        self._lent.add(task)
        self.release()
        yield
        await self.acquire()
        self._lent.remove(task)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        if task in self._lent:  # it ends without having its place again
            self._lent.remove(task)
        else:
            self.release()
