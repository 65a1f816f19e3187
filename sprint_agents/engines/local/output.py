"""Passes a completion's tokens from the worker thread to the asyncio tasks that read them.

All streams of one event loop share a ``Mailbox``. So a step wakes the loop once, not once per token, and a busy loop
receives the outputs of several steps at its next iteration, as one output per stream.
"""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sprint_agents.engine import Finish, TokenLogprob


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """Some tokens of a completion, and the text that they completed; ``logprobs`` if the request asked for them."""

    tokens: tuple[int, ...]
    text: str
    finish: Finish | None
    logprobs: tuple[TokenLogprob, ...] = ()


OutputOrError = TokenOutput | BaseException
"""The last item of every stream is an output with ``finish``, or an error."""


class OutputStream:
    """The outputs of one completion, read by one task on the event loop of ``mailbox``."""

    __slots__ = ("_items", "_waiter", "mailbox")

    def __init__(self, mailbox: "Mailbox") -> None:
        self.mailbox = mailbox
        self._items: list[OutputOrError] = []
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: OutputOrError) -> None:
        """Add an item. Call it on the event loop's thread only."""
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def unread(self) -> int:
        """Count the tokens that have arrived and that were not read."""
        return sum(len(item.tokens) for item in self._items if isinstance(item, TokenOutput))

    async def read(self) -> TokenOutput:
        """Wait for output, and merge everything since the last call; raise the error that ended the stream."""
        if not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        outputs = [item for item in self._items if isinstance(item, TokenOutput)]
        if not outputs:
            error = self._items[0]
            assert isinstance(error, BaseException)
            raise error
        del self._items[: len(outputs)]
        if len(outputs) == 1:
            return outputs[0]
        tokens = tuple(token for output in outputs for token in output.tokens)
        logprobs = tuple(each for output in outputs for each in output.logprobs)
        return TokenOutput(tokens, "".join(output.text for output in outputs), outputs[-1].finish, logprobs)


class Mailbox:
    """Collects items for the streams of one event loop, and delivers them on that loop."""

    __slots__ = ("__weakref__", "_items", "_lock", "_loop", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._items: list[tuple[OutputStream, OutputOrError]] = []
        self._woken = False

    def post(self, items: Sequence[tuple[OutputStream, OutputOrError]]) -> bool:
        """Hand over items from any thread; return False if the loop is closed, so that they can never be read."""
        with self._lock:
            self._items.extend(items)
            if self._woken and not self._loop.is_closed():
                return True
            self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _deliver(self) -> None:
        with self._lock:
            items, self._items = self._items, []
            self._woken = False
        for stream, item in items:
            stream.put(item)
