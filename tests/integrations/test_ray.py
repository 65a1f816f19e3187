"""The class that Ray Data's workers run, without Ray; ``tests/real/test_ray.py`` has a real one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Answer, Plan, Run, Sprint
from sprint_agents.errors import ConfigurationError
from sprint_agents.testing import FakeEngine
from sprint_integrations.ray import SprintWorker


class Factory:
    """Opens sprints and counts them, and their executions."""

    def __init__(self) -> None:
        self.opened = 0
        self.executed: list[str] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[Sprint[Any, Any, Any]]:
        self.opened += 1

        async def policy(planning):
            yield Plan.of(planning.task)
            if planning.task == "bad":
                raise ValueError(planning.task)
            yield Answer(value=planning.task.upper())

        def execute(subtask):
            self.executed.append(subtask.prompt)

        async with FakeEngine("") as engine:
            yield Sprint(engine, policy=policy, executor=execute)


def solve(worker: SprintWorker, *batches: dict[str, list[Any]]) -> list[dict[str, list[Any]]]:
    async def rows(batch: dict[str, list[Any]]) -> list[dict[str, list[Any]]]:
        return [row async for row in worker(batch)]

    async def main() -> list[dict[str, list[Any]]]:
        return [row for found in await asyncio.gather(*map(rows, batches)) for row in found]

    return asyncio.run(main())


def run_of(row: dict[str, list[Any]]) -> Run[Any, Any]:
    return Run[Any, Any].model_validate_json(row["run"][0])


def test_each_row_comes_out_once_with_its_run():
    make = Factory()
    rows = solve(SprintWorker(make), {"task": ["a", "b", "a"], "n": [1, 2, 3]}, {"task": ["bad"], "n": [4]})
    assert make.opened == 1
    assert sorted((row["n"][0], row["task"][0]) for row in rows) == [(1, "a"), (2, "b"), (3, "a"), (4, "bad")]
    answers = {row["n"][0]: run_of(row).answer for row in rows}
    assert answers == {1: "A", 2: "B", 3: "A", 4: None}
    (failed,) = [run.error for run in map(run_of, rows) if run.error]
    assert failed.type == "PolicyError"


def test_what_is_in_the_journals_is_not_run_again(tmp_path: Path):
    make, batch = Factory(), {"question": ["a", "b", "a"], "id": [1, 2, 3]}
    options = {"task_column": "question", "id_column": "id", "journals": tmp_path / "journals"}
    first = solve(SprintWorker(make, **options), batch)
    again = solve(SprintWorker(make, **options), batch)
    assert sorted(make.executed) == ["a", "a", "b"]
    assert sorted(run_of(row).id for row in first) == sorted(run_of(row).id for row in again)


def test_a_data_set_without_the_column_is_refused():
    with pytest.raises(ConfigurationError, match="no column 'task': it has question"):
        solve(SprintWorker(Factory()), {"question": ["a"]})
