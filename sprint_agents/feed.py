"""An async iterator over what a task produces; leaving its block ends the task."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """Iterate over what ``produce`` puts, inside an ``async with`` block that owns its task.

    An error of the producer is raised by the iteration, after all that was put before it.
    """

    __slots__ = ("_produce", "_queue", "_task")

    def __init__(self, produce: Callable[[Callable[[T], None]], Coroutine[Any, Any, object]]) -> None:
        self._produce = produce

    async def __aenter__(self) -> Self:
        self._queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        try:
            await self._produce(self._queue.put_nowait)
        finally:
            self._queue.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._queue.get()
        if item is None:
            self._queue.put_nowait(None)  # further iterations end too
            await self._task
            raise StopAsyncIteration
        return item

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        # Not awaited alone: that would raise the producer's error, or its cancellation, in place of the block's.
        await asyncio.gather(self._task, return_exceptions=True)
