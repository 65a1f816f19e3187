"""A run on a terminal: a tree that is redrawn while the run continues, or plain lines."""

import re
import time
from typing import Self

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.events import BudgetAwaited, Event, ExecutionFinished, RunFinished, RunStarted, StageFinished
from sprint_agents.run import Run

from .progress import BranchProgress, RunProgress, StageProgress

_FRAME = 0.1
"""Seconds between two pictures."""

_CELL = 23
"""Columns that one branch needs; branches share the columns that are left over."""
_TAIL = 2
"""Lines of text under the head of a branch while its stage is running."""
_STAGES = 2
"""How many stages a running run shows: the last ones."""

_MARKS = {"running": ("▸", "yellow"), "finished": ("✓", "green"), "failed": ("✗", "red"), "stopped": ("■", "dim")}
_SUBTASKS = re.compile(r"<prompt_[\d.]*>.*?</prompt_[\d.]*>?", re.DOTALL)
_TAGS = re.compile("|".join(rf"{re.escape(tag)}(?:[\d.]+>?)?" for tag in load_tags().special_tokens))


def can_redraw(console: Console) -> bool:
    """Whether ``console`` is a terminal that can redraw lines."""
    return console.is_terminal and not console.is_dumb_terminal


class LiveTree:
    """Draws the tree of a run, at most ten times a second; after the block the last picture remains."""

    def __init__(self, console: Console, *, engine: str) -> None:
        self._progress = RunProgress()
        self._engine = engine
        # Drawn only when an event arrives: a refreshing thread could read the progress while it changes.
        self._live = Live(console=console, auto_refresh=False, get_renderable=self._draw)
        self._next = 0.0

    def show(self, event: Event) -> None:
        """Show the next event of the run."""
        self._progress.update(event)
        if (now := time.monotonic()) >= self._next:
            self._live.start()
            self._live.refresh()
            self._next = now + _FRAME

    def _draw(self) -> Tree:
        return draw_run(self._progress, engine=self._engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()


class Lines:
    """Writes a line for the start of the run, each wait for the budget, and each execution, stage and run that ends."""

    def __init__(self, console: Console, *, engine: str) -> None:
        self._progress = RunProgress()
        self._engine = engine
        self._console = console

    def show(self, event: Event) -> None:
        """Show the next event of the run."""
        self._progress.update(event)
        match event:
            case RunStarted():
                self._write(f"{plain(event.task)}  {event.policy} on {plain(self._engine)}")
            case BudgetAwaited():
                part = "planner" if event.number is None else f"{event.stage}.{event.number}"
                self._write(f"  {part}: waits for the budget  ({event.left:,} tokens left)")
            case ExecutionFinished():
                branch = self._progress.stages[event.stage].branches[event.execution.number]
                result = "".join(last_lines(branch.text))
                result = result if event.execution.succeeded else f"failed: {result}"
                subtask = f"{event.stage}.{branch.number}  {plain(branch.prompt)}"
                self._write(f"  {subtask}: {result}  ({branch.tokens} tokens)")
            case StageFinished():
                stage = self._progress.stages[event.stage.number]
                opening = (line.removesuffix(":") for line in _said(stage))
                about = [*opening, _states(stage), "from the journal" if stage.replayed else ""]
                self._write(f"stage {stage.number}  {'; '.join(part for part in about if part)}")
            case RunFinished():
                if event.run.error is None:
                    self._write(_answer_line(event.run))
                if event.run.usage.calls:
                    self._write(_cost_line(event.run))
            case _:
                pass

    def _write(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def draw_run(progress: RunProgress, *, engine: str) -> Tree:
    """Draw the current state of a run."""
    about = (f"  {progress.policy} on {plain(engine)}", "dim")
    root = Tree(Text.assemble((plain(progress.task), "bold"), about), guide_style="dim")
    live = progress.run is None
    stages = list(progress.stages.values())
    if live and len(stages) > _STAGES:
        root.add(Text(f"{_count(len(stages) - _STAGES, 'stage')} before", style="dim"))
        stages = stages[-_STAGES:]
    for stage in stages:
        _add_stage(root, stage, around=None if not live else 12 if stage.finished else 14 if len(stages) > 1 else 8)
    if progress.run is None:
        root.add(Text(f"{progress.tokens:,} tokens so far", style="dim"))
        return root
    if progress.run.error is None:
        style = {True: "bold green", False: "bold red", None: "bold"}[progress.run.verified]
        root.add(Text(_answer_line(progress.run), style=style))
    else:
        root.add(Text(f"no answer: {progress.run.error.type}", style="red"))
    root.add(Text(_cost_line(progress.run), style="dim"))
    return root


def _add_stage(root: Tree, stage: StageProgress, *, around: int | None) -> None:
    head = Text.assemble((f"stage {stage.number}", "bold cyan"), (f"  planner {stage.tokens} tokens", "dim"))
    if stage.branches:
        head.append(f" · {_states(stage)}", style="dim")
    if stage.waiting:
        head.append(" · waits for the budget", style="yellow")
    if stage.replayed:
        head.append(" · from the journal", style="dim")
    node = root.add(head)
    for line in _said(stage, count=2 if stage.branches or stage.finished else 6):
        node.add(Text(line, style="italic", no_wrap=True, overflow="ellipsis"))
    if stage.branches:
        node.add(_BranchGrid(stage, around=around))


class _BranchGrid:
    """The branches of a stage in as many columns as fit.

    ``around`` is how many lines the rest of the picture takes; None if the picture may be higher than the screen.
    """

    def __init__(self, stage: StageProgress, *, around: int | None) -> None:
        self._stage = stage
        self._around = around

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        branches = list(self._stage.branches.values())
        columns = max(1, options.max_width // (_CELL + 1))
        rows = console.height if self._around is None else max(2, (console.height - self._around) // (1 + _TAIL))
        # If they do not all fit, show the running ones.
        kept = sorted(branches, key=lambda branch: branch.outcome != "running")[: columns * rows]
        width = options.max_width // columns - 1
        cells = [self._cell(branch, width) for branch in sorted(kept, key=lambda branch: branch.number)]
        yield Columns(cells, width=width, padding=(0, 1, 0, 0))
        if len(kept) < len(branches):
            yield Text(f"and {len(branches) - len(kept)} more", style="dim")

    def _cell(self, branch: BranchProgress, width: int) -> Text:
        mark, style = _MARKS[branch.outcome]
        head = Text.assemble((f"{mark} {self._stage.number}.{branch.number} ", style), plain(branch.prompt))
        if branch.attempt > 1:
            head.append(f" (try {branch.attempt})", style="yellow")
        tail = ["waits for the budget"] if branch.waiting else last_lines(branch.text, count=_TAIL)
        if self._stage.finished and tail:
            head.append(f" → {tail[-1]}", style="dim")
        tokens = f" {branch.tokens}"
        head.truncate(width - len(tokens), overflow="ellipsis", pad=True)
        lines = [head.append(tokens, style="dim")]
        if not self._stage.finished:
            lines += [Text(line, style="dim") for line in (*tail, "", "")[:_TAIL]]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n", no_wrap=True).join(lines)


def last_lines(text: str, *, count: int = 1) -> list[str]:
    """Return the last ``count`` lines that are not empty (0: all), without tags and terminal control characters."""
    lines = ("".join(sign for sign in line if sign.isprintable()).strip() for line in _TAGS.sub("", text).splitlines())
    return [line for line in lines if line][-count:]


def plain(text: str) -> str:
    """Return all of ``text`` as one line without tags and terminal control characters."""
    return " ".join(last_lines(text, count=0))


def _count(number: int, noun: str) -> str:
    """Write a number and its noun, such as ``1 stage``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _said(stage: StageProgress, *, count: int = 1) -> list[str]:
    """Return the last lines that the planner wrote in a stage, without its subtasks."""
    return last_lines(_SUBTASKS.sub("", stage.text), count=count)


def _states(stage: StageProgress) -> str:
    """Count the branches of a stage by their state, such as ``12 subtasks: 9 finished, 3 running``."""
    if not stage.branches:
        return ""
    counts = [(outcome, stage.count(outcome)) for outcome in ("finished", "running", "failed", "stopped")]
    states = ", ".join(f"{count} {outcome}" for outcome, count in counts if count)
    return f"{_count(len(stage.branches), 'subtask')}: {states}"


def _answer_line(run: Run[object]) -> str:
    """Write the answer of a run and whether it is right."""
    verdicts = {True: "right, a program checked it", False: "wrong, a program checked it", None: "not checked"}
    return f"answer  {plain(str(run.answer))}  ({verdicts[run.verified]})"


def _cost_line(run: Run[object]) -> str:
    """Write the tokens, stages and seconds of a run."""
    usage = run.usage
    # How many times more tokens were generated than had to wait for one another.
    speed_up = usage.total_tokens / usage.sequential_tokens_strict if usage.sequential_tokens_strict else 1.0
    return (
        f"{usage.total_tokens:,} tokens, {usage.sequential_tokens_strict:,} in sequence "
        f"({usage.sequential_tokens:,} as the paper counts): speed-up {speed_up:.1f}; "
        f"{_count(usage.stages, 'stage')}, width {usage.width}, {usage.seconds:.2f} s"
    )
