"""Ends the calls of a run that take too long, by one timer for all of them.

``asyncio.timeout`` would do for each of them, at the price of a timer each: in a fan-out of thousands of quick calls
that is a tenth of what the library costs.

Invariants:

- All calls have the same allowance, so they are due in the order in which they began.
- No timer is left when no call is under way.
- A call that is over is never cancelled.
"""

import asyncio


class Watched:
    """One call that the current task makes, between ``Watch.start`` and ``Watch.stop``."""

    __slots__ = ("_cancelling", "_due", "_expired", "_task")

    def begin(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Take note of who makes the call, and when it must be over."""
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._due = due
        self._expired = False

    def expire(self, now: float) -> float | None:
        """Cancel the call if it is due ``now``, once; return when it is, if that is later."""
        if self._due > now:
            return self._due
        if not self._expired:
            self._expired = True
            self._task.cancel()
        return None

    def too_long(self, kind: type[BaseException] | None) -> bool:
        """Say whether it was cancelled here, as it leaves its block by an exception of ``kind``.

        As with ``asyncio.timeout``, a task that others have cancelled meanwhile stays cancelled.
        """
        if not self._expired:
            return False
        return self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError


class Watch:
    """Cancels the task of every call that is not over ``seconds`` after it began."""

    __slots__ = ("_seconds", "_timer", "_under_way")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: dict[Watched, None] = {}

    def start(self, call: Watched) -> None:
        """Begin the time of a call."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._seconds
        call.begin(loop, due)
        self._under_way[call] = None
        if self._timer is None:
            self._timer = loop.call_at(due, self._ring)

    def stop(self, call: Watched, kind: type[BaseException] | None) -> bool:
        """End the time of a call that leaves its block by an exception of ``kind``; return whether it took too long."""
        del self._under_way[call]
        if not self._under_way and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return call.too_long(kind)

    def _ring(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for call in self._under_way:
            if (later := call.expire(now)) is not None:
                self._timer = loop.call_at(later, self._ring)
                return
