"""``sprint run``: solve one task, with JSON output or a live display."""

import secrets
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from sprint_agents import Run, Sprint, SprintError
from sprint_agents.events import RunFinished
from sprint_agents.plan import Failure

from .display import Lines, LiveTree, can_redraw
from .engines import describe
from .options import SolveOptions


async def run_as_json(
    options: SolveOptions,
    task: str,
    *,
    write: Callable[[str], object],
    concurrency: int | None = None,
    journal: Path | None = None,
) -> None:
    """Solve ``task`` and write its run as one JSON object, even if it fails.

    Raises:
        SprintError: the run failed, or could not start; its object has been written.
    """
    try:
        async with options.sprint(concurrency=concurrency) as sprint:
            run = await sprint.run(task, journal=journal)
    except SprintError as error:
        failed = error.run or Run[str](
            id=secrets.token_hex(8), task=task, policy=options.policy, error=Failure.of(error)
        )
        write(failed.model_dump_json())
        raise
    write(run.model_dump_json())


async def watch(
    options: SolveOptions, task: str, *, console: Console, concurrency: int | None = None, journal: Path | None = None
) -> None:
    """Solve ``task`` and show its progress.

    Raises:
        SprintError: the run failed, or could not start; its progress has been shown.
    """
    async with options.sprint(concurrency=concurrency, console=console) as sprint:
        await show(sprint, task, console=console, journal=journal)


async def show(sprint: Sprint, task: str, *, console: Console, journal: Path | None = None) -> Run[object]:
    """Run a task and show a live tree, or plain lines if ``console`` cannot redraw.

    Raises:
        SprintError: the run failed; its progress has been shown.
    """
    run: Run[object] | None = None
    display = LiveTree if can_redraw(console) else Lines
    with display(console, engine=describe(sprint.engine)) as shown:
        async with sprint.stream(task, journal=journal) as events:
            async for event in events:
                shown.show(event)
                if isinstance(event, RunFinished):
                    run = event.run
    assert run is not None  # a run without RunFinished raises
    return run
