"""Retries: the only module that repeats an attempt."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from .errors import EngineError, EngineOverloaded, InvalidResult, NoAnswer
from .logs import log

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
_LONGEST_PAUSE = 600.0
"""The longest pause, in seconds, that a server may ask for where no ``patience`` says how long: some ask for a day."""
_SPREAD = 0.25
"""The random part of a delay that the server asked for, as a share of it."""


def may_succeed_later(error: BaseException) -> bool:
    """Say whether the same request may succeed later: a temporary failure of the engine."""
    return isinstance(error, EngineError) and error.retryable


def may_be_corrected(error: BaseException) -> bool:
    """Say whether the model can correct itself once it reads the error: its text did not validate."""
    return isinstance(error, InvalidResult | NoAnswer)


async def retry(
    work: Callable[[], Awaitable[T]],
    *,
    attempts: int | None = None,
    patience: float | None = None,
    when: Callable[[BaseException], bool] = may_succeed_later,
    before_retry: Callable[[int, BaseException], None] | None = None,
    after: BaseException | None = None,
) -> T:
    """Await ``work()`` again while ``when`` accepts its error, then raise the last error.

    ``attempts`` bounds how often; ``patience`` bounds how long, in seconds since the first failure.

    ``before_retry`` receives the number of the next attempt (from 2) and the error. Pass ``after`` if the caller has
    already made the first attempt: its error. The delay before a retry is the server's own advice
    (``EngineOverloaded.retry_after``) or exponential, from 0.1 s to 10 s, and a random part. A correction is sent
    without delay. The last attempt is made when ``patience`` ends; if the server asks for a longer pause, or without
    ``patience`` for one of more than ten minutes, none is.
    """
    # Imported here, since most runs retry nothing and every program that imports the library would pay for it.
    from tenacity import AsyncRetrying, retry_if_exception, wait_exponential, wait_random

    made = [after] if after else []
    clock = _Patience(patience)
    backoff = wait_exponential(multiplier=0.1, max=10.0) + wait_random(0.0, 0.1)

    def wait(state: "RetryCallState") -> float:
        error = _error(state)
        if error and may_be_corrected(error):
            return 0.0
        if isinstance(error, EngineOverloaded) and error.retry_after is not None:
            # The siblings of a fan-out are refused together, and would all come back in the same moment.
            return error.retry_after + wait_random(0.0, max(0.1, error.retry_after * _SPREAD))(state)
        return min(backoff(state), clock.left())

    def stop(state: "RetryCallState") -> bool:
        return (attempts is not None and state.attempt_number >= attempts) or clock.ends(state)

    def announce(state: "RetryCallState") -> None:
        error = _error(state)
        log("warning", "trying again", error=error, attempt=state.attempt_number + 1, wait=state.upcoming_sleep)
        if before_retry and error:
            before_retry(state.attempt_number + 1, error)

    async for attempt in AsyncRetrying(
        stop=stop,
        retry=retry_if_exception(when),
        wait=wait,
        before_sleep=announce,
        reraise=True,
    ):
        with attempt:
            if made:
                raise made.pop()
            return await work()
    raise AssertionError("tenacity ends with a result or raises")


class _Patience:
    """The rest of a time for retries, which begins with the first failure."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._longest_pause = _LONGEST_PAUSE if seconds is None else seconds
        self._end: float | None = None

    def left(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._end is None:
            self._end = now + self._seconds
        return max(0.0, self._end - now)

    def ends(self, state: "RetryCallState") -> bool:
        """Say whether there is no time for the next attempt."""
        error = _error(state)
        asked = error.retry_after if isinstance(error, EngineOverloaded) else None
        left = self.left()
        return left <= 0 or (asked is not None and asked > min(left, self._longest_pause))


def _error(state: "RetryCallState") -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
