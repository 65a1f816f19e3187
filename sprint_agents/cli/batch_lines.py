"""The lines of a batch's two files: tasks, and the runs that are finished.

Invariants:

- A file of runs has one line for each task that is done, and ends with a whole line; what a killed process left
  half-written is cut before anything is appended.
- A line is written and flushed as soon as its run is finished.
"""

import hashlib
import os
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sprint_agents.errors import ConfigurationError
from sprint_agents.plan import Failure
from sprint_agents.run import Run


class TaskLine(BaseModel):
    """A line of a file of tasks. Numbers are taken as ids; what else a line holds is its owner's and ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    task: Annotated[str, Field(strict=True)]
    id: str | None = Field(default=None, min_length=1)


class _RunLine(BaseModel):
    """What a batch needs to know of a run line."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    task: str
    error: Failure | None


def read_tasks(path: Path) -> dict[str, str]:
    """Read the tasks of a JSONL file by their ids, in order; blank lines are skipped.

    A line without an id gets one that depends on its task alone, and on how many equal lines precede it.

    Raises:
        ConfigurationError: the file cannot be read, a line is no task, or an id occurs twice.
    """
    with _naming(path, "read"):
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    tasks: dict[str, str] = {}
    places: dict[str, int] = {}
    equal: dict[str, int] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            given = TaskLine.model_validate_json(line)
        except ValidationError as error:
            raise ConfigurationError(
                f"{path}, line {number} is no task: {_reason(error)}. "
                'Nothing was run; write each line as {"task": "…"} or {"task": "…", "id": "…"}'
            ) from error
        name = given.id
        if name is None:
            equal[given.task] = count = equal.get(given.task, 0) + 1
            name = f"task-{hashlib.sha256(given.task.encode()).hexdigest()[:12]}" + (f"-{count}" if count > 1 else "")
        if name in tasks:
            raise ConfigurationError(
                f"{path}, lines {places[name]} and {number} have the same id {name!r}: nothing was run; "
                "give each line an id of its own, or none"
            )
        tasks[name], places[name] = given.task, number
    return tasks


class RunLines:
    """A file of runs, open for appending; a context manager."""

    def __init__(self, path: Path, tasks: Mapping[str, str], *, retry_failed: bool = False) -> None:
        """Open ``path``, new or with the runs of an earlier process; with ``retry_failed`` forget those that failed.

        Raises:
            ConfigurationError: the file cannot be read or written, is no file of runs, or one of other tasks.
        """
        self._path = path
        self.done: set[str] = set()
        with _naming(path, "read"):
            content = path.read_bytes() if path.is_file() else b""
        kept: list[bytes] = []
        for line, run in self._read(content):
            if run.id in tasks and run.task != tasks[run.id]:
                raise ConfigurationError(
                    f"{path} has a run of another task with the id {run.id!r}, {run.task[:80]!r}: "
                    "nothing was run; give another --out, or other ids"
                )
            if not (retry_failed and run.error and run.id in tasks):
                self.done.add(run.id)
                kept.append(line)
        with _naming(path, "written"):
            if (whole := b"".join(line + b"\n" for line in kept)) != content:
                _replace(path, whole)
            self._file: IO[bytes] = path.open("ab")

    def _read(self, content: bytes) -> Iterator[tuple[bytes, _RunLine]]:
        lines = content.rstrip().split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield line, _RunLine.model_validate_json(line)
            except ValidationError as error:
                cut_short = error.errors()[0]["type"] == "json_invalid" and line.startswith(b"{")
                if cut_short and number == len(lines):
                    return
                raise ConfigurationError(
                    f"{self._path}, line {number} is no run: {_reason(error)}. "
                    "Nothing was run; give another --out, or remove the line"
                ) from error

    def append(self, run: Run[Any]) -> None:
        """Write a finished run.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        with _naming(self._path, "written"):
            self._file.write(run.model_dump_json().encode() + b"\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _replace(path: Path, content: bytes) -> None:
    """Write a file anew; whoever is killed meanwhile leaves it as it was."""
    target = path.resolve()
    new = target.with_name(f"{target.name}.new")
    new.write_bytes(content)
    shutil.copymode(target, new)
    os.replace(new, target)


@contextmanager
def _naming(path: Path, verb: Literal["read", "written"]) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be {verb}: {error.strerror or error}") from error


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    return ": ".join([*map(str, first["loc"]), first["msg"]])
