"""The one place where anything is tried again: only what may succeed later, with backoff, visibly."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from .errors import EngineError, EngineOverloaded, InvalidResult

T = TypeVar("T")

_log: structlog.stdlib.BoundLogger = structlog.get_logger("sprint_agents")
_backoff = wait_exponential(multiplier=0.1, max=10.0) + wait_random(0.0, 0.1)


def may_succeed_later(error: BaseException) -> bool:
    """Whether the same attempt can end differently: the engine's passing troubles."""
    return isinstance(error, EngineError) and error.retryable


def may_be_corrected(error: BaseException) -> bool:
    """Whether the model can do better once it is told the error: its words did not validate."""
    return isinstance(error, InvalidResult)


async def retried(
    work: Callable[[], Awaitable[T]],
    *,
    attempts: int,
    when: Callable[[BaseException], bool] = may_succeed_later,
    before_retry: Callable[[int, BaseException], None] | None = None,
    after: BaseException | None = None,
) -> T:
    """Do ``work`` up to ``attempts`` times while ``when`` says so, and raise the last error as it is.

    ``before_retry`` is told the number of the next attempt (from 2) and the error. ``after`` is how a first attempt
    ended that the caller has made. Waits as long as the server asked for (``EngineOverloaded.retry_after``), or 0.1 s,
    doubling, at most 10 s; for a correction not at all.
    """
    made = [after] if after else []

    def announce(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        _log.warning("trying again", attempt=state.attempt_number + 1, error=repr(error), wait=state.upcoming_sleep)
        if before_retry and error:
            before_retry(state.attempt_number + 1, error)

    async for attempt in AsyncRetrying(
        stop=stop_after_attempt(attempts),
        retry=retry_if_exception(when),
        wait=_wait,
        before_sleep=announce,
        reraise=True,
    ):
        with attempt:
            if made:
                raise made.pop()
            return await work()
    raise AssertionError("tenacity ends with a result or raises")


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, InvalidResult):
        return 0.0
    if isinstance(error, EngineOverloaded) and error.retry_after is not None:
        return error.retry_after
    return _backoff(state)
