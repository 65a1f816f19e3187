"""An async iterator over what a background task produces."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .errors import ConfigurationError, run_of
from .functions import ends_the_task, own_cancellation

T = TypeVar("T")


class AsyncStream(Generic[T]):
    """Iterate over the items of a background task; leaving the ``async with`` block cancels the task.

    A block can be entered once, and the items are read inside it. Each item goes to one reader.

    ``produce`` is called with a function that takes the next item. If it raises, the iteration raises the same error
    after the last item. ``taken`` is called when the reader takes an item.

    >>> async def count(put):
    ...     for number in range(3):
    ...         put(number)
    >>> async def main():
    ...     async with AsyncStream(count) as numbers:
    ...         return [number async for number in numbers]
    >>> asyncio.run(main())
    [0, 1, 2]
    """

    __slots__ = ("_ended", "_produce", "_queue", "_taken", "_task")

    def __init__(
        self,
        produce: Callable[[Callable[[T], None]], Coroutine[Any, Any, object]],
        *,
        taken: Callable[[], None] | None = None,
    ) -> None:
        self._produce = produce
        self._taken = taken
        self._queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise ConfigurationError("the block of a stream can be entered once: call the method again for a new one")
        self._task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        try:
            await self._produce(self._queue.put_nowait)
        finally:
            self._queue.put_nowait(None)

    @property
    def ended(self) -> bool:
        """Whether the task has ended, or its block has been left."""
        return self._ended or (self._task is not None and self._task.done())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._task is None or self._ended:
            fault = "its block has ended" if self._ended else "it has no block"
            raise ConfigurationError(
                f"a stream is read inside its block, and {fault}: `async with sprint.stream(…) as events: "
                "async for event in events: …`, and so with sprint.map"
            )
        item = await self._queue.get()
        if item is None:
            self._queue.put_nowait(None)  # ends further iterations too
            await self._raise_error(self._task)
            raise StopAsyncIteration
        if self._taken is not None:
            self._taken()
        return item

    async def _raise_error(self, task: asyncio.Task[None]) -> None:
        """Raise the error of the task, which has ended; its cancellation is not that of the reader."""
        try:
            await task
        except asyncio.CancelledError as cancelled:
            if self._ended or ends_the_task(cancelled):
                raise
            error = own_cancellation()
            error.run = run_of(cancelled)
            raise error from cancelled

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._ended = True
        self._task.cancel()
        # A bare await would raise the task's error or cancellation and hide the error of the block.
        await asyncio.gather(self._task, return_exceptions=True)
