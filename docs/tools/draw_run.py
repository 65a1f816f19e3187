"""Draw a recorded run as docs/run.svg.

    python docs/tools/draw_run.py             # from docs/run.json
    python docs/tools/draw_run.py --record    # solve the problem with sprint-nano first, and record that

The picture is to scale. Its horizontal axis counts tokens that were written one after another. An executor begins where
its prompt closed in the planner's text, and the distance to the right end is the length of the critical path.
"""

import argparse
import asyncio
import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from pydantic import BaseModel

from sprint_agents import Sampling, Sprint, Usage
from sprint_agents.events import PlannerWrote, RunFinished, StageFinished, SubtaskStarted

DOCS = Path(__file__).parents[1]
TASK = "Use 25, 7, 3 to make 46."


class Branch(BaseModel):
    """An execution: ``before`` are the plan's tokens up to the end of its prompt; ``result`` is its last line."""

    prompt: str
    before: int
    tokens: int
    result: str

    @property
    def end(self) -> int:
        """Tokens from the stage's beginning to the end of the execution."""
        return self.before + self.tokens


class DrawnStage(BaseModel):
    """A stage; ``tokens`` is its strict share of the critical path, ``paper`` the share as the paper counts it."""

    plan_tokens: int
    branches: list[Branch]
    tokens: int
    paper: int


class Recording(BaseModel):
    """The part of a run that the picture shows."""

    task: str
    answer: str
    stages: list[DrawnStage]
    usage: Usage


async def record(task: str) -> Recording:
    """Solve ``task`` greedily with sprint-nano and note when each prompt closed."""
    from sprint_agents.engines import LocalEngine  # drawing alone needs no torch
    from sprint_agents.nano import nano_path

    async with LocalEngine(nano_path()) as engine:
        sprint = Sprint(engine, sampling=Sampling(temperature=0))
        async with sprint.stream(task) as feed:
            events = [event async for event in feed]
    written, closed, stages = 0, list[int](), list[DrawnStage]()
    for event in events:
        match event:
            case PlannerWrote():
                written = event.tokens
            case SubtaskStarted():
                closed.append(written)
            case StageFinished(stage=stage):
                branches = [
                    Branch(
                        prompt=execution.prompt.strip(),
                        before=before,
                        tokens=execution.usage.generated_tokens,
                        result=execution.text.strip().splitlines()[-1],
                    )
                    for execution, before in zip(stage.executions, closed, strict=True)
                ]
                usage = stage.usage
                stages.append(
                    DrawnStage(
                        plan_tokens=written,
                        branches=branches,
                        tokens=usage.sequential_tokens_strict,
                        paper=usage.sequential_tokens,
                    )
                )
                closed.clear()
            case RunFinished(run=run):
                return Recording(task=task, answer=run.answer, stages=stages, usage=run.usage)
            case _:
                pass
    raise AssertionError("a run ends with RunFinished, or raises")


# Geometry, in pixels of the picture.
WIDTH, LEFT, RIGHT = 880, 96, 16
PLANNER, LANE = 84, 34  # top and height of the planner's track
EXECUTORS, ROW, BAR = 154, 37, 28
COLUMN = 390  # from the left column of the legend to the right one

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #263238; }
.title { font-size: 17px; font-weight: 600; }
.track { font-weight: 600; fill: #546e7a; }
.code { font: 11.5px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.note { fill: #607d8b; font-size: 12.5px; }
.on { fill: #fff; }
.plan { fill: #4a5fc1; stroke: #fff; stroke-width: 1.5; }
.answer { fill: #2e7d57; }
.execution { fill: #dff1ee; stroke: #4da79b; }
.critical { fill: #ffe0b8; stroke: #ef7d00; stroke-width: 2; }
.start { stroke: #90a4ae; fill: none; }
.waits { stroke: #b0bec5; stroke-dasharray: 2 4; fill: none; }
.join { stroke: #37474f; stroke-width: 2; }
.path { stroke: #ef7d00; stroke-width: 4; fill: none; stroke-linejoin: round; }
.bracket { stroke: #90a4ae; fill: none; }
"""


class Picture:
    """The parts of the SVG of one recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.scale = (WIDTH - LEFT - RIGHT) / sum(stage.tokens for stage in recording.stages)
        self.rows = max(len(stage.branches) for stage in recording.stages)
        self.bottom = EXECUTORS + self.rows * ROW

    def x(self, tokens: float) -> float:
        """Return the position of a number of tokens on the axis."""
        return round(LEFT + tokens * self.scale, 1)

    def __str__(self) -> str:
        height = self.bottom + 140
        parts = "\n".join([*self.heading(), *self.tracks(), *self.legend()])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-label="{escape(self.description())}">\n<style>{STYLE}</style>\n'
            f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#fff"/>\n{parts}\n</svg>\n'
        )

    def description(self) -> str:
        """Say in words what the picture shows."""
        counts = " and ".join(str(len(stage.branches)) for stage in self.recording.stages if stage.branches)
        usage = self.recording.usage
        return (
            f"A run of {usage.stages} stages: the planner's track, {counts} executors below it, the joins, "
            f"and the critical path of {usage.sequential_tokens_strict} tokens"
        )

    def heading(self) -> Iterator[str]:
        """Yield the question and the names of the tracks."""
        yield text(LEFT, 36, self.recording.task, "title")
        yield text(LEFT - 14, PLANNER + 22, "planner", "track", anchor="end")
        yield text(LEFT - 14, EXECUTORS + 19, "executors", "track", anchor="end")

    def tracks(self) -> Iterator[str]:
        """Yield the stages; lines lie below boxes, and the critical path between the two."""
        stages = [
            (number, stage, sum(before.tokens for before in self.recording.stages[: number - 1]))
            for number, stage in enumerate(self.recording.stages, 1)
        ]
        for _, stage, begin in stages:
            yield from self.lines(stage, begin)
        points = " ".join(f"{x},{y}" for _, stage, begin in stages for x, y in self.path(stage, begin))
        yield f'<polyline class="path" points="{points}"/>'
        for number, stage, begin in stages:
            yield from self.boxes(number, stage, begin)
            yield from self.bracket(number, stage, begin)

    def lines(self, stage: DrawnStage, begin: int) -> Iterator[str]:
        """Yield the lines that start executors, show waiting, and mark the join."""
        end = self.x(begin + stage.tokens)
        for row, branch in enumerate(stage.branches):
            middle = EXECUTORS + row * ROW + BAR / 2
            left, right = self.x(begin + branch.before), self.x(begin + branch.end)
            yield line(left, PLANNER + LANE, left, middle, "start")
            yield line(right, middle, end, middle, "waits")
        if stage.branches:
            written, middle = self.x(begin + stage.plan_tokens), PLANNER + LANE / 2
            yield line(written, middle, end, middle, "waits")
            yield text((written + end) / 2, middle - 6, "waits", "note", anchor="middle")
            yield line(end, PLANNER - 10, end, self.bottom, "join")
            yield text(end - 6, PLANNER - 14, "join", "note", anchor="end")

    def boxes(self, number: int, stage: DrawnStage, begin: int) -> Iterator[str]:
        """Yield the boxes: the plan, cut where its prompts close, and the executions; or the answer."""
        if not stage.branches:
            yield bar(self.x(begin), PLANNER, self.x(begin + stage.tokens), LANE, "answer")
            answer = self.recording.answer
            yield text(self.x(begin + stage.tokens / 2), PLANNER + 21, close(answer), "code on", anchor="middle")
            return
        cuts = [0, *(branch.before for branch in stage.branches), stage.plan_tokens]
        prompts = [*(branch.prompt for branch in stage.branches), ""]
        for left, right, prompt in zip(cuts, cuts[1:], prompts, strict=False):
            yield bar(self.x(begin + left), PLANNER, self.x(begin + right), LANE, "plan")
            yield text(self.x(begin + (left + right) / 2), PLANNER + 21, close(prompt), "code on", anchor="middle")
        for row, branch in enumerate(stage.branches):
            top, left = EXECUTORS + row * ROW, self.x(begin + branch.before)
            kind = "critical" if branch.end == stage.tokens else "execution"
            yield bar(left, top, self.x(begin + branch.end), BAR, kind)
            yield text(left + 7, top + 18, f"{number}.{row + 1}", "code track")
            yield text(left + 33, top + 18, f"{close(branch.prompt)}: {close(branch.result)}", "code")

    def path(self, stage: DrawnStage, begin: int) -> list[tuple[float, float]]:
        """Return the corners of the stage's part of the critical path."""
        planner = PLANNER + LANE + 4
        last = [(row, branch) for row, branch in enumerate(stage.branches) if branch.end == stage.tokens]
        if not last:
            return [(self.x(begin), planner), (self.x(begin + stage.tokens), planner)]
        row, branch = last[0]
        bottom = EXECUTORS + row * ROW + BAR + 4
        down, end = self.x(begin + branch.before), self.x(begin + stage.tokens)
        return [(self.x(begin), planner), (down, planner), (down, bottom), (end, bottom), (end, planner)]

    def bracket(self, number: int, stage: DrawnStage, begin: int) -> Iterator[str]:
        """Yield a stage's share of the critical path, by both counts."""
        left, right, top = self.x(begin) + 3, self.x(begin + stage.tokens) - 3, self.bottom + 16
        strict, paper = f"stage {number}: {stage.tokens} tokens", f"paper: {stage.paper}"
        if not stage.branches:
            strict, paper = f"answer: {stage.tokens}", f"{stage.paper}"
        yield f'<path class="bracket" d="M{left:.1f},{top} v8 H{right:.1f} v-8"/>'
        yield text((left + right) / 2, top + 28, strict, anchor="middle")
        yield text((left + right) / 2, top + 46, paper, "note", anchor="middle")

    def legend(self) -> Iterator[str]:
        """Yield the legend, in two rows below the brackets."""
        usage = self.recording.usage
        strict, paper = usage.sequential_tokens_strict, usage.sequential_tokens
        upper, lower = self.bottom + 96, self.bottom + 122
        left, right = LEFT, LEFT + COLUMN
        yield line(left, upper - 4, left + 26, upper - 4, "path")
        yield text(left + 36, upper, f"critical path: {strict} tokens (paper: {paper})")
        yield bar(left, lower - 12, left + 26, 14, "execution")
        yield text(left + 36, lower, f"{usage.total_tokens} tokens generated, {usage.subtasks} executions")
        yield line(right + 13, upper - 12, right + 13, upper + 4, "start")
        yield text(right + 36, upper, "an executor starts the moment its prompt closes")
        yield line(right + 13, lower - 12, right + 13, lower + 4, "join")
        yield text(right + 36, lower, "join: results in the order of their prompts")


def close(formula: str) -> str:
    """Return a formula without the spaces around its signs."""
    return re.sub(r" ?([-+*/()]) ?", r"\1", formula)


def text(x: float, y: float, words: str, kind: str = "", *, anchor: str = "start") -> str:
    """Return text at a position."""
    return f'<text x="{x:.1f}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def bar(left: float, top: float, right: float, height: float, kind: str) -> str:
    """Return a box."""
    return f'<rect x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{height}" rx="4" class="{kind}"/>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a line."""
    return f'<line x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}" class="{kind}"/>'


def main() -> None:
    """Record if asked to, then draw."""
    parser = argparse.ArgumentParser(description="Draw a recorded run as docs/run.svg.")
    parser.add_argument("--record", action="store_true", help="solve the problem with sprint-nano first")
    if parser.parse_args().record:
        recording = asyncio.run(record(TASK))
        (DOCS / "run.json").write_text(json.dumps(recording.model_dump(), indent=1) + "\n", "utf-8")
    recording = Recording.model_validate_json((DOCS / "run.json").read_text("utf-8"))
    (DOCS / "run.svg").write_text(str(Picture(recording)), "utf-8")


if __name__ == "__main__":
    main()
