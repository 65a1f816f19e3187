"""Virtual time: simulated minutes take milliseconds, and every time is exact.

The loop is asyncio's own with another clock. Where asyncio would sleep until its next timer, the clock jumps to it.

Invariants:

- The clock moves only when no task is ready to run, and only to a timer.
- While a job of ``run_in_executor`` or ``asyncio.to_thread`` runs, or a socket or pipe is open, the loop waits for it
  in real time, up to the next timer. Such work takes no virtual time unless it takes longer than that.
- If nothing can ever wake the loop again, it raises an error instead of hanging. Before that it waits a few real
  seconds if there are threads that the loop did not start, since one of them might wake it.
"""

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple, Unpack
from weakref import WeakSet

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_DIGITS = 9  # nanoseconds, the resolution of asyncio's own clock, so that 0.1 s and 0.2 s add up to 0.3 s

_PATIENCE = 5.0  # real seconds


class _Clock(selectors.DefaultSelector):
    """A selector, which is where a loop waits, that skips the waiting: ``now`` is the virtual time in seconds.

    ``jobs`` counts the running jobs in threads. ``workers`` are these threads, which stay alive between jobs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.jobs = 0
        self.workers: WeakSet[threading.Thread] = WeakSet()
        self.own_files = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the files that are ready; if none are, let ``timeout`` virtual seconds pass."""
        if timeout is not None and timeout <= 0:
            return super().select(0)
        alone = not self.jobs and len(self.get_map()) == self.own_files
        if timeout is None and alone:
            # List the threads first: if one wakes the loop and ends after that, the selector still sees its wake-up.
            strangers = set(threading.enumerate()) - {threading.current_thread(), *self.workers}
            events = super().select(_PATIENCE if strangers else 0)
        else:
            events = super().select(0 if alone else timeout)
        if not events and timeout is not None:
            # A timer due at 0.3000000000000001 s rings at 0.3 s. If it is set again for the rest, the clock must move.
            reached = self.now + timeout
            rounded = round(reached, _DIGITS)
            self.now = rounded if rounded > self.now else reached
        elif not events and alone:
            raise RuntimeError(_standstill(self.now))
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and jumps from timer to timer.

    A thread that the loop did not start can wake it with ``call_soon_threadsafe`` as usual, but timers do not wait
    for it.

    >>> async def lunch() -> float:
    ...     await asyncio.sleep(3600)
    ...     return asyncio.get_running_loop().time()
    >>> with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
    ...     runner.run(lunch())
    3600.0
    """

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)
        # The pipe through which threads and signals wake the loop.
        self._clock.own_files = len(self._clock.get_map())

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._clock.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run ``func`` in a thread as usual; the clock waits for it."""
        clock = self._clock

        def job() -> T:
            clock.workers.add(threading.current_thread())
            return func(*args)

        def done(_: asyncio.Future[T]) -> None:
            clock.jobs -= 1

        # A job for another process has to stay picklable, so it is not wrapped.
        in_thread = executor is None or isinstance(executor, ThreadPoolExecutor)
        future = super().run_in_executor(executor, job) if in_thread else super().run_in_executor(executor, func, *args)
        clock.jobs += 1
        future.add_done_callback(done)
        return future

    async def shutdown_default_executor(self, *timeout: float | None) -> None:
        """Join the threads of the default executor without a timeout."""
        # Python 3.12 added a timeout, which virtual time would reach before the threads can end.
        del timeout
        await super().shutdown_default_executor()


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` in virtual time, as ``asyncio.run`` does in real time.

    Raises:
        RuntimeError: every task waits, and nothing can wake one.

    >>> run_virtual(asyncio.sleep(86400, "a day later"))
    'a day later'

    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def _standstill(now: float) -> str:
    """Write the error that lists where each task of the running loop waits."""
    lines = [
        f"virtual time stands still at {now:g} s: every task waits for another, and there is no timer, thread or "
        "socket that could wake one. Set a deadline, or cancel the task that hangs. Waiting:"
    ]
    lines += [
        f"  {task.get_name()} at {frame.f_code.co_filename}:{frame.f_lineno}"
        for task in asyncio.all_tasks()
        for frame in task.get_stack(limit=1)
    ]
    return "\n".join(lines)
