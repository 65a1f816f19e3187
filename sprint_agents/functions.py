"""The functions that a run calls: tools, executors, and a user's own checks. One rule holds for all of them.

Invariants:

- An async function runs on the event loop, any other in a thread, so that none of them stops the other tasks.
- An async function runs in a task that belongs to the call. If it cancels its own task, only the call has ended.
- The time limit of a call counts from its start, not from the wait for a thread.
- No run and no interpreter waits for a thread that hangs: threads are daemons, and the result of a late one is dropped.
- Whatever a function raises is an ``Exception`` for its caller. Only two things pass through: the cancellation of the
  task that called it, and a ``KeyboardInterrupt`` on the event loop, which is the user's Ctrl-C. In a thread it cannot
  be, because Python delivers signals to the main thread.
"""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

from .errors import ConfigurationError, FunctionError, ReviewTimeout, describe, message_of

T = TypeVar("T")

MOST_THREADS = 256
"""The threads of a run that has no ``Limits.concurrency``."""

_Inbox = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
"""What a thread does next: it calls the function for the future, or ends at None."""

_NO_KEYWORDS: Mapping[str, Any] = MappingProxyType({})


class _Outcome(NamedTuple):
    """The value of a call in a thread or a task, or its error."""

    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        """Return the value.

        Raises:
            FunctionError: the call raised something that is not an ``Exception``, or that would end an iteration.
        """
        if self.error is None:
            return self.value
        contained = _contained(self.error)
        if contained is self.error:
            raise contained
        raise contained from self.error


class Threads(Executor):
    """The threads of a run, at most ``most`` at a time; an idle one is used again.

    ``free`` is a place for each thread that may still start. A call that exceeds its time limit returns its place, so
    threads that hang do not stop the run.
    """

    def __init__(self, most: int | None = None) -> None:
        self.free = asyncio.Semaphore(most or MOST_THREADS)
        self._lock = threading.Lock()
        self._idle: list[_Inbox] = []
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function that raises nothing in an idle thread, or in a new one."""
        future: Future[Any] = Future()
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = _Inbox()
            threading.Thread(target=self._work, args=(inbox,), name="sprint-agents function", daemon=True).start()
        inbox.put((future, partial(fn, *args, **kwargs)))
        return future

    def _work(self, inbox: _Inbox) -> None:
        while job := inbox.get():
            future, work = job
            running = future.set_running_or_notify_cancel()
            result = work() if running else None
            with self._lock:
                closed = self._closed
                if not closed:
                    self._idle.append(inbox)
            if running:
                future.set_result(result)
            del job, future, work, result  # an idle thread keeps nothing of its last call alive
            if closed:
                return

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End the idle threads; a busy one ends after its call. Nothing is waited for, whatever ``wait`` says."""
        del wait, cancel_futures
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` in a thread, in a copy of the current context, and return its value.

        Raises:
            FunctionError: it raised something that is not an ``Exception``, or that would end an iteration.
        """
        context, found, late = copy_context(), list[_Outcome](), False

        def work() -> _Outcome:
            try:
                found.append(_Outcome(context.run(function)))
            except BaseException as error:
                return _Outcome(error=error)
            if late:
                _drop(found)
            return found[0]

        try:
            outcome: _Outcome = await asyncio.get_running_loop().run_in_executor(self, work)
        except asyncio.CancelledError:
            late = True
            _drop(found)
            raise
        return outcome.result()


def _drop(found: list[_Outcome]) -> None:
    """Close a coroutine that nothing will await, which Python would warn about."""
    for outcome in found:
        if inspect.iscoroutine(outcome.value):
            outcome.value.close()


async def call_function(
    function: Callable[..., Any],
    /,
    *values: Any,
    threads: Threads,
    seconds: float | None = None,
    keywords: Mapping[str, Any] = _NO_KEYWORDS,
) -> Any:
    """Call a user's function, async or not, and return its value.

    >>> async def main():
    ...     with Threads() as threads:
    ...         return await call_function(sum, [1, 2], threads=threads, seconds=10)
    >>> asyncio.run(main())
    3

    Raises:
        FunctionError: the call took longer than ``seconds``, or ended in a way that would end more than the call.
        Exception: whatever else the function raised.
    """
    on_loop = is_async(function)
    if not on_loop:
        await threads.free.acquire()
    clock = asyncio.timeout(seconds)
    try:
        async with clock:
            if on_loop:
                return await _own_task(partial(function, *values, **keywords))
            try:
                value = await threads.run(partial(function, *values, **keywords))
            finally:
                threads.free.release()
            return await _own_task(lambda: value) if inspect.isawaitable(value) else value
    except BaseException as error:
        contained = as_exception(error)
        if clock.expired():
            raise FunctionError(f"it took longer than {seconds:g} s") from error
        if contained is error:
            raise
        raise contained from error


async def ask_person(function: Callable[..., Any], /, *values: Any, what: str, seconds: float | None) -> Any:
    """Call a user's function that may wait for a person, as ``call_function`` does, in a thread of its own.

    Raises:
        ReviewTimeout: it took longer than ``seconds``.
        FunctionError: it raised.
    """
    clock = asyncio.timeout(seconds)
    try:
        with Threads(1) as threads:
            async with clock:
                return await call_function(function, *values, threads=threads)
    except Exception as error:
        if clock.expired():
            raise ReviewTimeout(
                f"{what} gave no answer within {seconds:g} s: answer sooner, or raise Limits(review_seconds=…)"
            ) from error
        raise FunctionError(f"{what} failed, {describe(error)}") from error


async def _own_task(call: Callable[[], Awaitable[Any]]) -> Any:
    """Call and await in a task that ends with this call, and is cancelled with the task that called.

    Raises:
        CancelledError: the task that called was cancelled, even if the function ignored it.
    """
    before = cancelling()

    async def run() -> _Outcome:
        try:
            return _Outcome(await call())
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            # An asyncio task that ends with SystemExit ends its event loop. One that ends with GeneratorExit looks to
            # the task that awaits it as if that itself was closed.
            return _Outcome(error=error)

    outcome = await asyncio.create_task(run())
    if cancelling() > before:
        raise asyncio.CancelledError from outcome.error
    return outcome.result()


def is_async(function: Callable[..., Any]) -> bool:
    """Say whether calling ``function`` does no more than to make a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_called(function))


def check_function(function: object, *, what: str) -> None:
    """Refuse what has no single result; the message begins with ``what``.

    Raises:
        ConfigurationError: ``function`` cannot be called, or is a generator function.
    """
    if not callable(function):
        raise ConfigurationError(f"{what} is {function!r}, which cannot be called: pass a function, async or not")
    for called in (function, _called(function)):
        if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
            name = getattr(function, "__name__", type(function).__name__)
            raise ConfigurationError(
                f"{what} is a generator function ({name}), and a call has one result: return it, not yield"
            )


def _called(function: object) -> Any:
    """Return the method that a callable object runs."""
    if isinstance(function, partial):
        return _called(cast("partial[Any]", function).func)
    return type(function).__call__ if callable(function) else None


def as_exception(error: BaseException) -> Exception:
    """Return an error that a user's code raised on the event loop as one that ends only this code.

    Raises:
        CancelledError: the running task is cancelled.
        KeyboardInterrupt: the user interrupts the program.
        GeneratorExit: the coroutine is closed.
    """
    if ends_the_task(error):
        raise error
    return _contained(error)


def ends_the_task(error: BaseException) -> bool:
    """Say whether an error ends the running task, and not only the code that raised it."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def cancelling() -> int:
    """Return how often the running task has been cancelled."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def despite_cancellation(work: Awaitable[T]) -> T:
    """Await ``work`` to its end, however often the calling task is cancelled meanwhile; then pass that on."""
    future, cancelled = asyncio.ensure_future(work), None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled
    return future.result()


def own_cancellation() -> FunctionError:
    """Return the error of a task that was cancelled although the task that awaits it was not."""
    return FunctionError("cancelled: its own code cancelled its task")


def _contained(error: BaseException) -> Exception:
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    if isinstance(error, asyncio.CancelledError):
        message = message_of(error)
        return FunctionError(f"it was cancelled: {message}" if message else "it was cancelled")
    return FunctionError(f"it raised {describe(error)}")
