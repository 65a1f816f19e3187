"""Solve the tasks of a JSONL file, several at a time; run the same command again to continue after an interruption.

Each line of the input is ``{"id": …, "task": …}``. Each run is written to the output as soon as it finishes; a failed
run has an ``error``. ``sprint batch`` does the same from the command line, and more.

    python examples/batch.py examples/tasks.jsonl runs.jsonl
"""

import argparse
import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from sprint_agents import Engine, Run, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path

TASKS = Path(__file__).with_name("tasks.jsonl")


LineT = TypeVar("LineT", bound=BaseModel)


class Line(BaseModel):
    """A line of the input."""

    id: str
    task: str


class Solved(BaseModel):
    """A line of the output: the run under the task's id."""

    id: str
    run: Run


def read(path: Path, kind: type[LineT]) -> list[LineT]:
    """Read a JSONL file; a file that does not exist has no lines."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [kind.model_validate_json(line) for line in lines]


async def main(
    engine: Engine | None = None, *, source: Path = TASKS, out: Path = Path("runs.jsonl"), concurrency: int = 4
) -> list[Solved]:
    """Solve the tasks that ``out`` does not have yet, print a line per run, and return the new lines."""
    done = {line.id for line in read(out, Solved)}
    names: dict[str, list[str]] = {}  # equal tasks may swap their runs
    for line in read(source, Line):
        if line.id not in done:
            names.setdefault(line.task, []).append(line.id)
    tasks = [task for task, ids in names.items() for _ in ids]
    solved: list[Solved] = []
    async with aclosing(engine or LocalEngine(nano_path())) as opened:
        sprint = Sprint(opened)
        with out.open("a", encoding="utf-8", buffering=1) as file:
            async with sprint.map(tasks, concurrency=concurrency) as runs:
                async for run in runs:
                    solved.append(Solved(id=names[run.task].pop(0), run=run))
                    file.write(solved[-1].model_dump_json() + "\n")
                    print(f"{solved[-1].id}: {run.error.message if run.error else run.answer}")
    print(f"{len(solved)} solved, {len(done)} were done before")
    return solved


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", default=TASKS)
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs.jsonl"))
    given = parser.parse_args()
    asyncio.run(main(source=given.source, out=given.out))
