"""``sprint batch``: many tasks, each finished run at once on the disk."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sprint_agents import Run

from .batch_lines import RunLines, read_tasks
from .settings import Settings


@dataclass(slots=True)
class _Tally:
    """What a batch has come to; the runs of earlier processes are only ``skipped``."""

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


def solve_file(
    settings: Settings, tasks_file: Path, out: Path, *, console: Console, concurrency: int, retry_failed: bool
) -> None:
    """Solve the tasks of ``tasks_file`` that have no line in ``out`` yet, and print a summary to ``console``.

    Raises:
        ConfigurationError: a file or a line of it is not as it should be, or the engine cannot be opened.
    """
    tasks = read_tasks(tasks_file)
    with RunLines(out, tasks, retry_failed=retry_failed) as runs:
        rest = {name: task for name, task in tasks.items() if name not in runs.done}
        tally = _Tally(skipped=len(tasks) - len(rest))
        try:
            if rest:
                asyncio.run(_solve(settings, rest, runs, tally, concurrency=concurrency))
        finally:
            if tally.done or not rest:
                console.print(str(tally), markup=False, highlight=False, soft_wrap=True)


async def _solve(
    settings: Settings, tasks: Mapping[str, str], runs: RunLines, tally: _Tally, *, concurrency: int
) -> None:
    # Runs come as they finish, named by their tasks; which of several equal tasks got which run does not matter.
    names: defaultdict[str, deque[str]] = defaultdict(deque)
    for name, task in tasks.items():
        names[task].append(name)
    with _progress_bar() as bar:
        whole = bar.add_task("", total=len(tasks), right=0, failed=0)
        async with settings.sprint() as sprint, sprint.map(tasks.values(), concurrency=concurrency) as finished:
            async for run in finished:
                runs.append(run.model_copy(update={"id": names[run.task].popleft()}))
                tally.add(run)
                bar.update(whole, advance=1, right=tally.right, failed=tally.failed)


def _progress_bar() -> Progress:
    """Make a bar on stderr, or none where that is no terminal."""
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
