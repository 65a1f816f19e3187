"""The two ways to show a run while it goes on: a tree that is drawn anew, and lines."""

import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.tree import Tree

from sprint_agents.events import Event, ExecutionFinished, RunFinished, RunStarted, StageFinished

from .tree import draw
from .view import RunView
from .words import answer, branches, cost, last_lines, plain, said

_FRAME = 0.1
"""Seconds between two pictures."""


def can_redraw(console: Console) -> bool:
    """Whether what is written to ``console`` can be drawn over."""
    return console.is_terminal and not console.is_dumb_terminal


class LiveTree:
    """Draws the run's tree, at most ten times a second; leaving the block leaves the last picture."""

    def __init__(self, console: Console, *, engine: str) -> None:
        self._view = RunView()
        self._engine = engine
        # Drawn by the thread that feeds it: another one would see the view change under its hands.
        self._live = Live(console=console, auto_refresh=False, get_renderable=self._draw)
        self._next = 0.0

    def see(self, event: Event) -> None:
        """Take the next event of the run."""
        self._view.see(event)
        if (now := time.monotonic()) >= self._next:
            self._live.start()
            self._live.refresh()
            self._next = now + _FRAME

    def _draw(self) -> Tree:
        return draw(self._view, engine=self._engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()


class Lines:
    """Writes a line for whatever comes to an end."""

    def __init__(self, console: Console, *, engine: str) -> None:
        self._view = RunView()
        self._engine = engine
        self._console = console

    def see(self, event: Event) -> None:
        """Take the next event of the run."""
        self._view.see(event)
        match event:
            case RunStarted():
                self._write(f"{event.task}  {event.policy} on {self._engine}")
            case ExecutionFinished():
                branch = self._view.stages[event.stage].branches[event.execution.number]
                result = "".join(last_lines(branch.text))
                result = result if event.execution.succeeded else f"failed: {result}"
                subtask = f"{event.stage}.{branch.number}  {plain(branch.prompt)}"
                self._write(f"  {subtask}: {result}  ({branch.tokens} tokens)")
            case StageFinished():
                stage = self._view.stages[event.stage.number]
                opening = (line.removesuffix(":") for line in said(stage))
                about = [*opening, branches(stage), "from the journal" if stage.replayed else ""]
                self._write(f"stage {stage.number}  {'; '.join(part for part in about if part)}")
            case RunFinished():
                if event.run.error is None:
                    self._write(answer(event.run))
                if event.run.usage.calls:
                    self._write(cost(event.run))
            case _:
                pass

    def _write(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass
