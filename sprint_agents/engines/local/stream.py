"""The way of a completion's pieces from the worker thread to the task that reads them.

All streams of one event loop share a ``Mailbox``: a step wakes the loop once, not once per token, and a loop that is
busy gets several steps' pieces at its next turn, as one chunk per stream.
"""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sprint_agents.engine import Finish


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens of a completion and the text that they completed."""

    tokens: tuple[int, ...]
    text: str
    finish: Finish | None


Item = Piece | BaseException
"""The last item of every stream is a piece with ``finish``, or an error."""


class Stream:
    """The pieces of one completion, read by one task of the loop of ``mailbox``."""

    __slots__ = ("_items", "_waiter", "mailbox")

    def __init__(self, mailbox: "Mailbox") -> None:
        self.mailbox = mailbox
        self._items: list[Item] = []
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: Item) -> None:
        """Add an item; on the loop's thread."""
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> Piece:
        """Wait for what came since the last call, as one piece; raise the error that ended the stream."""
        if not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        pieces = [item for item in self._items if isinstance(item, Piece)]
        if not pieces:
            error = self._items[0]
            assert isinstance(error, BaseException)
            raise error
        del self._items[: len(pieces)]
        if len(pieces) == 1:
            return pieces[0]
        tokens = tuple(token for piece in pieces for token in piece.tokens)
        return Piece(tokens, "".join(piece.text for piece in pieces), pieces[-1].finish)


class Mailbox:
    """What the worker has for the streams of one event loop."""

    __slots__ = ("__weakref__", "_items", "_lock", "_loop", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._items: list[tuple[Stream, Item]] = []
        self._woken = False

    def post(self, items: Sequence[tuple[Stream, Item]]) -> bool:
        """Hand items over, from any thread; False if the loop is closed, so that nobody will read them."""
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
