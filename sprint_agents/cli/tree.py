"""A run as a tree on a terminal: stages, the planner's words, branches side by side."""

from collections.abc import Iterator, Sequence

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from rich.tree import Tree

from .view import BranchView, RunView, StageView
from .words import answer, branches, cost, last_lines, said

_CELL = 30
"""Columns of one branch."""
_TAIL = 2
"""Lines of a running stage's branch under its head."""
_AROUND = 12
"""Lines of the screen that are left to everything but the branches of one stage."""

_MARKS = {"running": ("▸", "yellow"), "finished": ("✓", "green"), "failed": ("✗", "red"), "stopped": ("■", "dim")}


def draw(view: RunView, *, engine: str) -> Tree:
    """Draw the run as it is now."""
    root = Tree(Text.assemble((view.task, "bold"), (f"  {view.policy} on {engine}", "dim")), guide_style="dim")
    for stage in view.stages.values():
        _add_stage(root, stage)
    if view.run is None:
        root.add(Text(f"{view.tokens:,} tokens so far", style="dim"))
    elif view.run.error is not None:
        root.add(Text(f"no answer: {view.run.error.type}", style="red"))
        root.add(Text(cost(view.run), style="dim"))
    else:
        style = {True: "bold green", False: "bold red", None: "bold"}[view.run.verified]
        root.add(Text(answer(view.run), style=style))
        root.add(Text(cost(view.run), style="dim"))
    return root


def _add_stage(root: Tree, stage: StageView) -> None:
    head = Text.assemble((f"stage {stage.number}", "bold cyan"), (f"  planner {stage.tokens} tokens", "dim"))
    if stage.branches:
        head.append(f" · {branches(stage)}", style="dim")
    if stage.replayed:
        head.append(" · from the journal", style="dim")
    node = root.add(head)
    for line in said(stage, count=2 if stage.branches or stage.finished else 6):
        node.add(Text(line, style="italic", no_wrap=True, overflow="ellipsis"))
    if stage.branches:
        node.add(_Branches(list(stage.branches.values()), tails=stage.finished is None))


class _Branches:
    """The branches of a stage in as many columns as fit, and in no more lines than the screen has left."""

    def __init__(self, shown: Sequence[BranchView], *, tails: bool) -> None:
        self._branches = shown
        self._tails = tails

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = max(1, options.max_width // (_CELL + 1))
        rows = max(2, (console.height - _AROUND) // (1 + _TAIL if self._tails else 1))
        # Where not all fit, those that still move are worth watching.
        kept = sorted(self._branches, key=lambda branch: branch.outcome != "running")[: columns * rows]
        cells = [self._cell(branch) for branch in sorted(kept, key=lambda branch: branch.number)]
        yield Columns(cells, width=_CELL, padding=(0, 1, 0, 0))
        if hidden := len(self._branches) - len(kept):
            yield Text(f"and {hidden} more", style="dim")

    def _cell(self, branch: BranchView) -> Text:
        lines = list(self._lines(branch))
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def _lines(self, branch: BranchView) -> Iterator[Text]:
        mark, style = _MARKS[branch.outcome]
        head = Text.assemble((f"{mark} {branch.number} ", style), " ".join(last_lines(branch.prompt)))
        if branch.attempt > 1:
            head.append(f" (try {branch.attempt})", style="yellow")
        tail = [Text(line, style="dim") for line in last_lines(branch.text, count=_TAIL)]
        if not self._tails and tail:
            head.append(" → ").append_text(tail.pop())
            tail = []
        tokens = f" {branch.tokens}"
        head.truncate(_CELL - len(tokens), overflow="ellipsis", pad=True)
        yield head.append(tokens, style="dim")
        if self._tails:
            tail += [Text()] * (_TAIL - len(tail))
        for line in tail:
            line.truncate(_CELL, overflow="ellipsis")
            yield line
