"""Ray Data: many tasks on many machines, each with exactly one record.

``dataset.map_batches(SprintWorker, …)`` starts workers, each with a ``Sprint`` and its own connections. Ray starts a
worker again that died, and gives its batch to another. With ``journals`` what was finished by then is not repeated.

Source: https://docs.ray.io/en/latest/data/api/doc/ray.data.Dataset.map_batches.html
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any

from sprint_agents.arguments import at_least
from sprint_agents.errors import ConfigurationError
from sprint_agents.run import Run
from sprint_agents.sprint import Sprint

Batch = Mapping[str, Sequence[Any]]
"""Rows, as columns of equal length."""


class SprintWorker:
    """Solves batches of tasks, for ``map_batches``; ``make`` opens the ``Sprint`` of a worker.

    A row that comes in goes out with its run, in a column ``run`` (JSON, for ``Run.model_validate_json``), as soon as
    that has finished. A run that failed has its ``error``.

    Args:
        make: returns an async context manager with the worker's ``Sprint``, so that it has connections of its own.
        concurrency: the runs of a batch that are active at a time.
        task_column: has the tasks.
        id_column: names each row in ``journals``; by default the task does, which must then be in one row only.
        journals: a folder that all workers reach, for a journal of each task. Runs that were interrupted resume from
            there, and those that had finished are not run again.
    """

    def __init__(
        self,
        make: Callable[[], AbstractAsyncContextManager[Sprint[Any, Any, Any]]],
        *,
        concurrency: int = 64,
        task_column: str = "task",
        id_column: str | None = None,
        journals: Path | str | None = None,
    ) -> None:
        at_least(1, concurrency=concurrency)
        self._opening = make()
        self._concurrency = concurrency
        self._task_column, self._id_column = task_column, id_column
        self._journals = Path(journals) if journals is not None else None
        self._sprint: Sprint[Any, Any, Any] | None = None
        self._lock = asyncio.Lock()

    async def __call__(self, batch: Batch) -> AsyncGenerator[dict[str, list[Any]]]:
        """Yield each row of ``batch`` with its run, in the order in which they finish.

        Raises:
            ConfigurationError: the batch lacks a column.
        """
        sprint = await self._open()
        tasks = [str(task) for task in self._column(batch, self._task_column)]
        rows: dict[str, list[int]] = {}
        for number, task in enumerate(tasks):
            rows.setdefault(task, []).append(number)
        journals = list(self._paths(batch)) if self._journals else None
        async with sprint.map(tasks, concurrency=self._concurrency, journals=journals) as runs:
            async for run in runs:
                yield self._row(batch, rows[run.task].pop(), run)

    async def _open(self) -> Sprint[Any, Any, Any]:
        async with self._lock:
            if self._sprint is None:  # left by the end of the process, as Ray tells its workers nothing before
                self._sprint = await self._opening.__aenter__()
        return self._sprint

    def _column(self, batch: Batch, name: str) -> Sequence[Any]:
        if name not in batch:
            raise ConfigurationError(f"the data set has no column {name!r}: it has {', '.join(batch)}")
        return batch[name]

    def _paths(self, batch: Batch) -> Iterator[Path]:
        assert self._journals is not None
        self._journals.mkdir(parents=True, exist_ok=True)
        for name in self._column(batch, self._id_column or self._task_column):
            yield self._journals / f"{sha256(str(name).encode()).hexdigest()[:24]}.jsonl"

    @staticmethod
    def _row(batch: Batch, number: int, run: Run[Any, Any]) -> dict[str, list[Any]]:
        return {name: [column[number]] for name, column in batch.items()} | {"run": [run.model_dump_json()]}
