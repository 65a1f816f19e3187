"""``sprint batch``: many tasks, from a JSONL file or from reasoning-gym, and their runs in a file.

Invariants:

- The file of runs has one line for each task that is done, and ends with a whole line: a line that a killed process
  left unfinished is removed before anything is appended.
- Each line is written and flushed as soon as its run finishes.
"""

import hashlib
import os
import shutil
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sprint_agents import Run
from sprint_agents.errors import ConfigurationError
from sprint_agents.gym import Gym
from sprint_agents.plan import Failure
from sprint_agents.rollouts import RolloutRecorder

from .options import SolveOptions
from .rollouts import RolloutLines

Check = Callable[[str, str], Awaitable[bool | None]]
"""Says of the task with an id whether an answer is right; None if that cannot be decided."""


class TaskLine(BaseModel):
    """A line of a file of tasks. An id may be a number; other fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    task: Annotated[str, Field(strict=True)]
    id: str | None = Field(default=None, min_length=1)


class _RunLine(BaseModel):
    """The fields of a run line that a batch reads again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    task: str
    error: Failure | None


def read_tasks(path: Path) -> dict[str, str]:
    """Read the tasks of a JSONL file by their ids, in order; blank lines are skipped.

    The id of a line without one depends only on its task and on how many equal lines precede it.

    Raises:
        ConfigurationError: the file cannot be read, a line is not a task, or an id occurs twice.
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
            task_line = TaskLine.model_validate_json(line)
        except ValidationError as error:
            raise ConfigurationError(
                f"{path}, line {number} is not a task: {_reason(error)}. "
                'Nothing was run; write each line as {"task": "…"} or {"task": "…", "id": "…"}'
            ) from error
        name = task_line.id
        if name is None:
            equal[task_line.task] = count = equal.get(task_line.task, 0) + 1
            name = f"task-{hashlib.sha256(task_line.task.encode()).hexdigest()[:12]}" + (
                f"-{count}" if count > 1 else ""
            )
        if name in tasks:
            raise ConfigurationError(
                f"{path}, lines {places[name]} and {number} have the same id {name!r}: nothing was run; "
                "give each line another id, or none"
            )
        tasks[name], places[name] = task_line.task, number
    return tasks


class RunLines:
    """A file of runs that is open for appending; a context manager."""

    def __init__(self, path: Path, tasks: Mapping[str, str], *, retry_failed: bool = False) -> None:
        """Open ``path``, which may have the runs of an earlier process; ``retry_failed`` removes the failed ones.

        Raises:
            ConfigurationError: the file cannot be read or written, or has other content than runs of ``tasks``.
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
                    f"{self._path}, line {number} is not a run: {_reason(error)}. "
                    "Nothing was run; give another --out, or remove the line"
                ) from error

    def append(self, run: Run[Any]) -> None:
        """Append a finished run.

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


@dataclass(slots=True)
class _Tally:
    """The totals of a batch; ``skipped`` counts the runs of earlier processes."""

    skipped: int
    done: int = 0
    failed: int = 0
    checked: int = 0
    right: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, run: Run[Any]) -> None:
        """Count a finished run."""
        self.done += 1
        self.failed += run.error is not None
        self.checked += run.verified is not None
        self.right += run.verified is True
        self.tokens += run.usage.total_tokens

    def __str__(self) -> str:
        share = f" ({self.right / self.checked:.0%})" if self.checked else ""
        return (
            f"{self.done} done, {self.skipped} skipped, {self.failed} failed; "
            f"verified {self.right} of {self.checked} checked{share}; "
            f"{self.tokens:,} tokens, {time.monotonic() - self.started:.1f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """The tasks of a batch, and how they run; ``gym`` are generators of reasoning-gym, separated by commas."""

    tasks: Path | None
    gym: str | None
    count: int
    gym_seed: int
    out: Path
    concurrency: int
    retry_failed: bool
    rollouts: Path | None


async def solve_batch(options: SolveOptions, batch: BatchOptions, *, console: Console) -> None:
    """Solve the tasks that have no line in the file of runs yet, and print a summary to ``console``.

    Raises:
        ConfigurationError: a file or one of its lines is not valid, there is no such generator, or the engine cannot be
            opened.
    """
    async with AsyncExitStack() as opened:
        if (batch.tasks is None) == (batch.gym is None):
            raise ConfigurationError("a batch has a file of tasks, or --gym: give one of them")
        if batch.gym is None:
            assert batch.tasks is not None
            tasks, check = read_tasks(batch.tasks), None
        else:
            gym = await opened.enter_async_context(Gym())
            tasks, check = await _gym_tasks(gym, batch)
        runs = opened.enter_context(RunLines(batch.out, tasks, retry_failed=batch.retry_failed))
        rest = {name: task for name, task in tasks.items() if name not in runs.done}
        tally = _Tally(skipped=len(tasks) - len(rest))
        try:
            if rest:
                await _solve(options, rest, runs, tally, check=check, batch=batch)
        finally:
            if tally.done or not rest:
                console.print(str(tally), markup=False, highlight=False, soft_wrap=True)


async def _gym_tasks(gym: Gym, batch: BatchOptions) -> tuple[dict[str, str], Check]:
    names = [name.strip() for name in str(batch.gym).split(",")]
    made = {task.id: task for task in await gym.tasks(names, count=batch.count, seed=batch.gym_seed)}

    async def check(name: str, answer: str) -> bool | None:
        return await gym.is_right(made[name], answer)

    return {name: task.task for name, task in made.items()}, check


async def _solve(
    options: SolveOptions,
    tasks: Mapping[str, str],
    runs: RunLines,
    tally: _Tally,
    *,
    check: Check | None,
    batch: BatchOptions,
) -> None:
    # Runs arrive as they finish and know only their task; equal tasks may swap their runs.
    names: defaultdict[str, deque[str]] = defaultdict(deque)
    for name, task in tasks.items():
        names[task].append(name)
    recorder = None if batch.rollouts is None else RolloutRecorder
    async with AsyncExitStack() as opened:
        bar = opened.enter_context(_progress_bar())
        whole = bar.add_task("", total=len(tasks), right=0, failed=0)
        sprint = await opened.enter_async_context(options.sprint(recorder=recorder))
        rollouts = batch.rollouts and opened.enter_context(RolloutLines(batch.rollouts, sprint))
        async with sprint.map(tasks.values(), concurrency=batch.concurrency) as finished:
            async for run in finished:
                run = run.model_copy(update={"id": names[run.task].popleft()})
                if check is not None and run.error is None:
                    run = run.model_copy(update={"verified": await check(run.id, str(run.answer))})
                if rollouts:
                    rollouts.append(run)
                runs.append(run)
                tally.add(run)
                bar.update(whole, advance=1, right=tally.right, failed=tally.failed)


def _progress_bar() -> Progress:
    """Make a progress bar on stderr, or none if that is not a terminal."""
    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[right]} verified, {task.fields[failed]} failed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _replace(path: Path, content: bytes) -> None:
    """Replace the content of a file in one step, so that a killed process leaves the old content."""
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
