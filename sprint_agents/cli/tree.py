"""A run as a tree on a terminal: stages, the planner's words, branches side by side."""

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from rich.tree import Tree

from .view import BranchView, RunView, StageView
from .words import answer, branches, cost, count_of, last_lines, plain, said

_CELL = 23
"""Columns that one branch needs; what is left over is shared."""
_TAIL = 2
"""Lines of a running stage's branch under its head."""
_STAGES = 2
"""Stages that are shown while the run goes on: the last ones."""

_MARKS = {"running": ("▸", "yellow"), "finished": ("✓", "green"), "failed": ("✗", "red"), "stopped": ("■", "dim")}


def draw(view: RunView, *, engine: str) -> Tree:
    """Draw the run as it is now."""
    root = Tree(Text.assemble((view.task, "bold"), (f"  {view.policy} on {engine}", "dim")), guide_style="dim")
    live = view.run is None
    stages = list(view.stages.values())
    if live and len(stages) > _STAGES:
        root.add(Text(f"{count_of(len(stages) - _STAGES, 'stage')} before", style="dim"))
        stages = stages[-_STAGES:]
    for stage in stages:
        _add_stage(root, stage, around=None if not live else 12 if stage.finished else 14 if len(stages) > 1 else 8)
    if view.run is None:
        root.add(Text(f"{view.tokens:,} tokens so far", style="dim"))
        return root
    if view.run.error is None:
        style = {True: "bold green", False: "bold red", None: "bold"}[view.run.verified]
        root.add(Text(answer(view.run), style=style))
    else:
        root.add(Text(f"no answer: {view.run.error.type}", style="red"))
    root.add(Text(cost(view.run), style="dim"))
    return root


def _add_stage(root: Tree, stage: StageView, *, around: int | None) -> None:
    head = Text.assemble((f"stage {stage.number}", "bold cyan"), (f"  planner {stage.tokens} tokens", "dim"))
    if stage.branches:
        head.append(f" · {branches(stage)}", style="dim")
    if stage.replayed:
        head.append(" · from the journal", style="dim")
    node = root.add(head)
    for line in said(stage, count=2 if stage.branches or stage.finished else 6):
        node.add(Text(line, style="italic", no_wrap=True, overflow="ellipsis"))
    if stage.branches:
        node.add(_Branches(stage, around=around))


class _Branches:
    """The branches of a stage in as many columns as fit.

    ``around`` is how many lines of the screen the rest of the picture takes; None if it need not fit the screen.
    """

    def __init__(self, stage: StageView, *, around: int | None) -> None:
        self._stage = stage
        self._around = around

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        branches = list(self._stage.branches.values())
        columns = max(1, options.max_width // (_CELL + 1))
        rows = console.height if self._around is None else max(2, (console.height - self._around) // (1 + _TAIL))
        # Where not all fit, those that still move are worth watching.
        kept = sorted(branches, key=lambda branch: branch.outcome != "running")[: columns * rows]
        width = options.max_width // columns - 1
        cells = [self._cell(branch, width) for branch in sorted(kept, key=lambda branch: branch.number)]
        yield Columns(cells, width=width, padding=(0, 1, 0, 0))
        if len(kept) < len(branches):
            yield Text(f"and {len(branches) - len(kept)} more", style="dim")

    def _cell(self, branch: BranchView, width: int) -> Text:
        mark, style = _MARKS[branch.outcome]
        head = Text.assemble((f"{mark} {self._stage.number}.{branch.number} ", style), plain(branch.prompt))
        if branch.attempt > 1:
            head.append(f" (try {branch.attempt})", style="yellow")
        tail = last_lines(branch.text, count=_TAIL)
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
