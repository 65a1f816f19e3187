"""``sprint run``: one task, as one JSON object or on view."""

import secrets
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from sprint_agents import Run, Sprint, SprintError
from sprint_agents.events import RunFinished
from sprint_agents.plan import Failure

from .display import Lines, LiveTree, can_redraw
from .engines import describe
from .settings import Settings


async def run_as_json(
    settings: Settings,
    task: str,
    *,
    write: Callable[[str], object],
    concurrency: int | None = None,
    journal: Path | None = None,
) -> None:
    """Solve ``task`` and write its run line, failed or not.

    Raises:
        SprintError: the run failed, or could not begin; its line has been written.
    """
    try:
        async with settings.sprint(concurrency=concurrency) as sprint:
            run = await sprint.run(task, journal=journal)
    except SprintError as error:
        failed = error.run or Run[str](
            id=secrets.token_hex(8), task=task, policy=settings.policy, error=Failure.of(error)
        )
        write(failed.model_dump_json())
        raise
    write(run.model_dump_json())


async def watch(
    settings: Settings, task: str, *, console: Console, concurrency: int | None = None, journal: Path | None = None
) -> None:
    """Solve ``task`` on view.

    Raises:
        SprintError: the run failed, or could not begin; what there was of it has been shown.
    """
    async with settings.sprint(concurrency=concurrency, console=console) as sprint:
        await show(sprint, task, console=console, journal=journal)


async def show(sprint: Sprint, task: str, *, console: Console, journal: Path | None = None) -> Run[object]:
    """Run a task: a live tree where ``console`` can draw one, lines elsewhere.

    Raises:
        SprintError: the run failed; what there was of it has been shown.
    """
    run: Run[object] | None = None
    display = LiveTree if can_redraw(console) else Lines
    with display(console, engine=describe(sprint.engine)) as shown:
        async with sprint.stream(task, journal=journal) as events:
            async for event in events:
                shown.see(event)
                if isinstance(event, RunFinished):
                    run = event.run
    assert run is not None  # a run that fails before its first event raises
    return run
