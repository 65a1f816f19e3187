"""One request whose answer is streamed: how long it may be silent, and a farewell before its connection closes.

A cancelled read closes its connection while the ``CancelledError`` passes through the HTTP client. That is too early
for an abort: SGLang until 0.5.19 forgets a request whose connection is closed, ignores an abort for it, and computes it
to its end. So ``Exchange.wait`` takes the steps of a read itself, and says farewell before it passes a cancellation on.

Invariants:

- ``farewell`` is awaited once, while the connection is still open, however the client leaves: cancelled, after a
  silence, or at the end of its block. It is not awaited if the request was not sent.
- A cancellation that arrives during the farewell is passed on too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

import httpx2

T = TypeVar("T")

Farewell = Callable[[], Coroutine[Any, Any, None]]
Steps = Generator[Any, Any, T]
"""The steps of a coroutine: it yields the future that it waits for."""

_SENT = "send_request_headers.started"
"""From here on the server may have the whole request, whatever the client has noticed."""


class Exchange:
    """A request and its streamed answer, over one connection."""

    __slots__ = ("_farewell", "_reason", "_sent", "_waiting")

    def __init__(self, farewell: Farewell | None = None) -> None:
        self._farewell = farewell
        self._sent = False
        self._reason: Exception | None = None
        self._waiting: asyncio.Future[Any] | None = None

    async def trace(self, event: str, _: object) -> None:
        """Notice that the request is being sent; an extension of the request (``httpcore``'s ``trace``)."""
        self._sent = self._sent or event.endswith(_SENT)

    def answered(self) -> None:
        """Record that the answer has begun, for transports that have no ``trace``."""
        self._sent = True

    @property
    def sent(self) -> bool:
        """Whether the server may have the request."""
        return self._sent

    async def leave(self) -> None:
        """Say farewell, unless that was done or the request was not sent."""
        if self._sent and self._farewell:
            farewell, self._farewell = self._farewell, None
            await farewell()

    def interrupt(self, reason: Exception) -> None:
        """Raise ``reason`` in the task that waits for the answer, if any."""
        # Cancels what the task waits for, not the task: this is not a cancellation for anyone else.
        if self._waiting and self._waiting.cancel():
            self._reason = reason

    @coroutine
    def wait(self, work: Awaitable[T], *, silence: float | None) -> Steps[T]:
        """Await ``work``, and leave before a cancellation reaches it.

        Raises:
            ReadTimeout: the request was sent, and no byte arrived for ``silence`` seconds, unless that is None.
            Exception: the reason of an interruption.
        """
        steps: Steps[T] = work.__await__()
        cause: BaseException | None = None
        while True:
            try:
                future: asyncio.Future[Any] | None = next(steps) if cause is None else steps.throw(cause)
            except StopIteration as end:
                return end.value
            except asyncio.CancelledError:
                if self._reason:
                    raise self._reason from None
                raise
            cause = yield from self._pause(future, silence)

    def _pause(self, future: asyncio.Future[Any] | None, silence: float | None) -> Steps[BaseException | None]:
        """Wait for ``future``; return the error to pass on, if any."""
        timer, self._waiting = None, future
        if future is not None and self._sent and silence is not None:
            timer = future.get_loop().call_later(silence, self.interrupt, httpx2.ReadTimeout("silent"))
        try:
            yield future
        except asyncio.CancelledError as cancelled:
            self._waiting = None
            try:
                yield from self.leave().__await__()
            except BaseException as another:
                self._reason = None
                return another
            return cancelled
        except Exception as error:
            return error
        finally:
            self._waiting = None
            if timer:
                timer.cancel()
        return None


class EventStream:
    """The events in a streamed ``response``, each awaited through its exchange."""

    __slots__ = ("_events", "_exchange", "_silence", "response")

    def __init__(
        self, exchange: Exchange, response: httpx2.Response, source: httpx2.EventSource, *, silence: float | None
    ) -> None:
        self.response = response
        self._exchange = exchange
        self._events = aiter(source)
        self._silence = silence

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> httpx2.ServerSentEvent:
        """Return the next event of the answer."""
        return await self._exchange.wait(anext(self._events), silence=self._silence)
