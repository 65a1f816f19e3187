"""The time limits of a run, and of its engine calls.

One timer ends the calls that take too long. ``asyncio.timeout`` would do the same with a timer for each call, but in a
fan-out of thousands of quick calls those timers are a tenth of the library's overhead.

Invariants:

- All calls have the same time limit, so they are due in the order in which they began. A call that was paused is due
  later, and has its own timer.
- No timer is left when no call is running, and a finished call is never cancelled.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from sprint_agents.errors import DeadlineExceeded


class TimedCall:
    """A call under a ``CallTimer``: the task that makes it, and the loop time at which it is due.

    ``alarm`` is the timer of a call that was paused; while it is paused, ``due`` is how many seconds it has left.
    """

    __slots__ = ("alarm", "cancelling", "due", "expired", "task")

    alarm: asyncio.TimerHandle | None
    task: asyncio.Task[Any]
    cancelling: int
    due: float
    expired: bool


class CallTimer:
    """Cancels the task of every call that takes longer than ``seconds``."""

    __slots__ = ("_calls", "_handle", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None
        self._calls: dict[TimedCall, None] = {}

    def start(self, call: TimedCall) -> None:
        """Start the time of a call that the current task makes."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        call.task, call.cancelling = task, task.cancelling()
        call.due = loop.time() + self._seconds
        call.expired = False
        call.alarm = None
        self._calls[call] = None
        if self._handle is None:
            self._handle = loop.call_at(call.due, self._ring)

    def stop(self, call: TimedCall, kind: type[BaseException] | None) -> bool:
        """End the time of a call that leaves its block by an exception of ``kind``; return whether it took too long.

        As with ``asyncio.timeout``, a task that was cancelled from outside as well stays cancelled.
        """
        self._remove(call)
        return call.expired and call.task.uncancel() <= call.cancelling and kind is asyncio.CancelledError

    def pause(self, call: TimedCall) -> None:
        """Stop the time of a call while it waits for something that is not the engine."""
        self._remove(call)
        call.due -= asyncio.get_running_loop().time()

    def resume(self, call: TimedCall) -> None:
        """Let the time of a paused call continue, with its own timer, because it is due out of order."""
        loop = asyncio.get_running_loop()
        call.due += loop.time()
        call.alarm = loop.call_at(call.due, self._expire, call)

    def _remove(self, call: TimedCall) -> None:
        if call.alarm is not None:
            call.alarm.cancel()
            return
        del self._calls[call]
        if not self._calls and self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        # Calls are in the order in which they are due, so the first one that is due later sets the next alarm. With
        # 10 s each, calls that began at 0, 4 and 5 s: at 10 s the first is cancelled and the alarm set to 14 s.
        self._handle = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for call in self._calls:
            if call.due > now:
                self._handle = loop.call_at(call.due, self._ring)
                return
            self._expire(call)

    def _expire(self, call: TimedCall) -> None:
        if not call.expired:
            call.expired = True
            call.task.cancel()


@asynccontextmanager
async def deadline(seconds: float | None) -> AsyncGenerator[None]:
    """Limit a block to so many seconds.

    Raises:
        DeadlineExceeded: they are over.
    """
    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            yield
    except TimeoutError as error:
        if seconds is None or not timeout.expired():
            raise
        raise DeadlineExceeded(f"the run's {seconds:g} s are over: raise Budget(seconds=…)") from error
