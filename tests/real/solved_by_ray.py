"""Solves tasks on two local Ray workers, one of which dies once, and prints the records: ``… FOLDER TASKS``."""

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sprint_agents import Answer, Plan, Planning, Run, Sprint, Stage, Step, Subtask
from sprint_agents.testing import FakeEngine
from sprint_integrations.ray import SprintWorker

WIDTH = 3
DEADLY = f"task 7, part {WIDTH}"
AT_ONCE = 4


def worker_of(folder: Path) -> Any:
    """Return what opens a worker's sprint, whose executor writes down what it does."""

    def execute(subtask: Subtask) -> int:
        with (folder / "executed").open("a") as file:
            file.write(f"{subtask.prompt}\n")
        if subtask.prompt == DEADLY and not (folder / "died").exists():
            (folder / "died").touch()
            os._exit(1)
        return subtask.number

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage[int]]:
        if planning.task == "task 0":
            raise ValueError("no such task")
        for number in range(1, WIDTH + 1):
            yield Plan.of(f"{planning.task}, part {number}")
        yield Answer(value=planning.task.upper())

    @asynccontextmanager
    async def make() -> AsyncGenerator[Sprint[Any, Any, Any]]:
        async with FakeEngine("") as engine:
            yield Sprint(engine, policy=policy, executor=execute)

    return make


def main(folder: Path, count: int) -> None:
    """Solve the tasks and print a line for each row."""
    import ray  # not in the environment of the tests
    from ray.data import ActorPoolStrategy, DataContext, from_items

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        _node_ip_address="127.0.0.1",
    )
    DataContext.get_current().enable_progress_bars = False
    tasks = [{"number": number, "task": f"task {number}"} for number in range(count)]
    options = {"concurrency": AT_ONCE, "id_column": "number", "journals": folder / "journals"}
    solved = from_items(tasks, override_num_blocks=8).map_batches(
        SprintWorker,  # type: ignore[arg-type]
        fn_constructor_args=[worker_of(folder)],
        fn_constructor_kwargs=options,
        batch_size=AT_ONCE,
        compute=ActorPoolStrategy(size=2),
    )
    for row in solved.iter_rows():
        run = Run[Any, Any].model_validate_json(row["run"])
        line = {"number": row["number"], "answer": run.answer, "error": run.error and run.error.type}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
