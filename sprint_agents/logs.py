"""Log messages: silent until the application configures structlog, and each with the run that it is about.

Invariants:

- Without ``structlog.configure``, nothing is written: structlog's defaults would print to the application's output.
- structlog is never imported here: an application that has configured it has imported it.
- No message above debug holds the text of a task, a model, a server or a function. An error is named by its type, and a
  message at debug has its text.
- Every message of a run has its place: ``run``, ``stage`` and ``branch``, if they are known. Context variables hold it,
  so the tasks and threads of a branch have it too.
"""

import sys
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, Protocol

from .errors import message_of

_LIBRARY = "sprint_agents"


class LogPlace(NamedTuple):
    """The part of a run that a message is about.

    ``run`` is the id of the run that the application started. ``branch`` is the path to an execution: ``1.2/2.1`` is
    execution 1 of stage 2 of the nested policy or sprint that carries out execution 2 of stage 1.
    """

    run: str | None = None
    stage: int | None = None
    branch: str | None = None

    def fields(self) -> dict[str, str | int]:
        """Return what is known.

        >>> LogPlace(run="5e1f", stage=2).fields()
        {'run': '5e1f', 'stage': 2}
        """
        known = {"run": self.run, "stage": self.stage, "branch": self.branch}
        return {name: value for name, value in known.items() if value is not None}


_place: ContextVar[LogPlace] = ContextVar("sprint_agents_log_place", default=LogPlace())  # noqa: B039 - it is a tuple


class _Recorded(Protocol):
    """An error as data, such as a ``Failure``."""

    @property
    def type(self) -> str: ...

    @property
    def message(self) -> str: ...


class _Placed:
    """A block whose messages, and those of the tasks that it starts, have a place."""

    __slots__ = ("_place", "_token")

    def __init__(self, place: LogPlace) -> None:
        self._place = place

    def __enter__(self) -> None:
        self._token = _place.set(self._place)

    def __exit__(self, *exception: object) -> None:
        # A coroutine that is never finished is closed in another context, where there is nothing to restore.
        try:  # noqa: SIM105 - faster, and there is a block for each execution
            _place.reset(self._token)
        except ValueError:
            pass


def run_in_logs(run: str) -> AbstractContextManager[None]:
    """Give the messages of the block, and of the tasks that it starts, a run."""
    return _Placed(LogPlace(run))


def stage_in_logs(number: int) -> AbstractContextManager[None]:
    """Give the messages of the block a stage, in the run and the branch that they have."""
    place = _place.get()
    return _Placed(LogPlace(place.run, number, place.branch))


def branch_in_logs(number: int) -> AbstractContextManager[None]:
    """Give the messages of the block an execution of their stage, by its ``number``."""
    place = _place.get()
    inner = f"{place.stage}.{number}"
    return _Placed(LogPlace(place.run, place.stage, f"{place.branch}/{inner}" if place.branch else inner))


def log(
    level: Literal["debug", "info", "warning"],
    event: str,
    /,
    *,
    logger: str = _LIBRARY,
    error: BaseException | _Recorded | None = None,
    **fields: object,
) -> None:
    """Write a message, if the application has configured structlog.

    Args:
        level: the level of the message.
        event: what happened, in words that never change.
        logger: the name of the logger, for applications that pass messages to the standard library's logging.
        error: the cause. The field ``error`` is its type; its text is in a second message, at debug.
        fields: further fields.
    """
    structlog: Any = sys.modules.get("structlog")
    if structlog is None or not structlog.is_configured():
        return
    write = structlog.get_logger(logger)
    fields = {**_place.get().fields(), **fields}
    if error is None:
        getattr(write, level)(event, **fields)
        return
    is_exception = isinstance(error, BaseException)
    fields["error"] = type(error).__name__ if is_exception else error.type
    getattr(write, level)(event, **fields)
    write.debug(f"{event}: cause", **fields, message=message_of(error) if is_exception else error.message)
