"""How parts of a run read in a line, the same on a terminal and off it."""

import re

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.errors import SprintError
from sprint_agents.run import Run

from .view import StageView, speed_up

_SUBTASKS = re.compile(r"<prompt_[\d.]*>.*?</prompt_[\d.]*>?", re.DOTALL)
_TAGS = re.compile("|".join(rf"{re.escape(tag)}(?:[\d.]+>?)?" for tag in load_tags().special_tokens))


def error_line(error: SprintError) -> str:
    """Write an error as the one line that every command reports it with."""
    return f"error: {type(error).__name__}: {' '.join(str(error).split())}"


def last_lines(text: str, *, count: int = 1) -> list[str]:
    """Return the last ``count`` lines that say something (0: all), without tags or what a terminal would obey."""
    lines = ("".join(sign for sign in line if sign.isprintable()).strip() for line in _TAGS.sub("", text).splitlines())
    return [line for line in lines if line][-count:]


def plain(text: str) -> str:
    """Return all of ``text`` in one line that is safe to print, like ``last_lines``."""
    return " ".join(last_lines(text, count=0))


def count_of(number: int, noun: str) -> str:
    """Say how many there are, such as ``1 stage``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def said(stage: StageView, *, count: int = 1) -> list[str]:
    """Return the last lines that the planner wrote in a stage, its subtasks not repeated."""
    return last_lines(_SUBTASKS.sub("", stage.text), count=count)


def branches(stage: StageView) -> str:
    """Say how far the branches of a stage are, such as ``12 subtasks: 9 finished, 3 running``."""
    if not stage.branches:
        return ""
    counts = [(outcome, stage.count(outcome)) for outcome in ("finished", "running", "failed", "stopped")]
    states = ", ".join(f"{count} {outcome}" for outcome, count in counts if count)
    return f"{count_of(len(stage.branches), 'subtask')}: {states}"


def answer(run: Run[object]) -> str:
    """Say what a run answered, and whether that is right."""
    said_of_it = {True: "right, a program checked it", False: "wrong, a program checked it", None: "not checked"}
    return f"answer  {plain(str(run.answer))}  ({said_of_it[run.verified]})"


def cost(run: Run[object]) -> str:
    """Say what a run cost."""
    usage = run.usage
    return (
        f"{usage.total_tokens:,} tokens, {usage.sequential_tokens_strict:,} in sequence "
        f"({usage.sequential_tokens:,} as the paper counts): speed-up {speed_up(usage):.1f}; "
        f"{count_of(usage.stages, 'stage')}, width {usage.width}, {usage.seconds:.2f} s"
    )
