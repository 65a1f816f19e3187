"""Many tasks, each with exactly one record, whatever happens to its run."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

from sprint_agents.errors import ConfigurationError, run_of
from sprint_agents.functions import as_exception, own_cancellation
from sprint_agents.run import Run

TaskT = TypeVar("TaskT")
RecordT = TypeVar("RecordT")


def check_many(what: str, values: object) -> None:
    """Refuse what is not an iterable of ``what``, or is one text.

    Raises:
        ConfigurationError: it is not.
    """
    if isinstance(values, str) or not (hasattr(values, "__iter__") or hasattr(values, "__getitem__")):
        raise ConfigurationError(
            f"map takes an iterable of {what}, not {type(values).__name__}: pass [{what[:-1]}], or a list"
        )


async def run_each(
    tasks: Iterable[TaskT],
    places: asyncio.Semaphore,
    *,
    run: Callable[[TaskT], Awaitable[RecordT]],
    failed: Callable[[TaskT, Exception, Run[Any, Any] | None], RecordT],
    put: Callable[[RecordT], None],
) -> None:
    """Run each task as soon as there is a place, and put its record when it ends.

    The reader of the records frees the places, so a slow one holds up the tasks. ``failed`` makes the record of a run
    that cancelled its own task, from what the run had by then.

    Raises:
        Exception: ``tasks`` raised it; what was running has ended.
    """
    owner = asyncio.current_task()
    assert owner is not None

    async def run_one(task: TaskT) -> None:
        try:
            put(await run(task))
        except asyncio.CancelledError as cancelled:
            if owner.cancelling():
                raise
            put(failed(task, own_cancellation(), run_of(cancelled)))

    error: Exception | None = None
    async with asyncio.TaskGroup() as group:
        try:
            remaining = iter(tasks)
            while True:
                await places.acquire()
                try:
                    task = next(remaining)
                except StopIteration:
                    break
                group.create_task(run_one(task))
        except BaseException as raised:
            error = as_exception(raised)
    if error is not None:
        raise error  # outside the group, which would wrap it


def pair_with_journals(
    tasks: Iterable[str], journals: Iterable[Path | str] | None
) -> Iterator[tuple[str, Path | str | None]]:
    """Pair each task with its journal, or with None if there are no journals.

    Raises:
        ConfigurationError: there are fewer journals than tasks.
    """
    if journals is None:
        yield from zip(tasks, repeat(None))
        return
    others = iter(journals)
    for task in tasks:
        if (journal := next(others, None)) is None:
            raise ConfigurationError("journals= has fewer journals than there are tasks: give one for each")
        yield task, journal
