"""Countdown traces: the same search as one sequential chain and as a SPRINT trajectory.

A *call* is one request of a run: a context, cut into the pieces in which the runtime writes or receives it,
and the completion that the model writes there. Pieces are encoded one by one, in training as in a run, so
both see the same token ids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sprint_agents.dialect.tags import load_tags
from sprint_agents.tasks.countdown import Countdown

from .search import Exploration

PLAN_OPENINGS = ("Sums and differences first:\n", "Nothing found. Products and quotients next:\n")
"""How the plan of each stage opens, beside ``problems.PHASES``."""

NOTHING = "no solution found"

_TAGS = load_tags(1)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a call: ``learned`` if the model wrote it and trains on it."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One path of a trajectory: all requests whose contexts are prefixes of one another."""

    role: Literal["planner", "executor", "chain"]
    pieces: tuple[Piece, ...]
    found: bool = False


def chain(task: Countdown, searched: Sequence[Sequence[Exploration]]) -> Call:
    """Write the sequential trace: openings one after the other until one meets the target."""
    found: str | None = None
    text = ""
    for lead, explorations in zip(PLAN_OPENINGS, searched, strict=False):
        text += lead
        for exploration in explorations:
            text += exploration.text
            if found := exploration.found:
                break
    text += f"{_TAGS.chain.close}\n{_answer(found)}"
    return Call("chain", (_question(task), Piece(f"{_TAGS.chain.open}\n", False), Piece(text, True)), bool(found))


def planner(task: Countdown, searched: Sequence[Sequence[Exploration]]) -> Call:
    """Write the planner's path: plans and the answer are learned, joined executions are read."""
    pieces = [_question(task)]
    found: str | None = None
    for number, explorations in enumerate(searched, 1):
        pieces += [Piece(_plan(number, explorations) + _TAGS.stops.plan[0], True)]
        joined = f"{number}>\n{_TAGS.executions.open.format(stage=number)}\n"
        for index, exploration in enumerate(explorations, 1):
            label = f"{number}.{index}"
            joined += f"<execution_{label}>\n"
            pieces += [Piece(joined, False), Piece(exploration.text + _TAGS.stops.execution[0], False)]
            joined = f"{label}>\n"
            found = found or exploration.found
        pieces.append(Piece(joined + f"{_TAGS.executions.close.format(stage=number)}\n", False))
    pieces.append(Piece(_answer(found), True))
    return Call("planner", tuple(pieces), found is not None)


def executors(task: Countdown, searched: Sequence[Sequence[Exploration]]) -> Iterator[Call]:
    """Write the executors' paths: each reads the planner's path up to the end of its own prompt."""
    path = planner(task, searched).pieces
    position = 0
    for stage, explorations in enumerate(searched, 1):
        while not path[position].learned:
            position += 1
        plan = path[position].text
        before = tuple(Piece(piece.text, False) for piece in path[:position])
        for index, exploration in enumerate(explorations, 1):
            close = _TAGS.prompt.close.format(stage=stage, number=index)
            yield Call(
                "executor",
                (
                    *before,
                    Piece(plan[: plan.index(close) + len(close)], False),
                    Piece(f"\n<execution_{stage}.{index}>\n", False),
                    Piece(exploration.text + _TAGS.stops.execution[0], True),
                ),
                exploration.found is not None,
            )
        position += 1


def _answer(found: str | None) -> str:
    """Write the last request of either mode; the expression stands as in the line that found it, so it can be copied."""
    answer = f"\\boxed{{ {found}}}" if found else NOTHING
    return f"{_TAGS.answer.open}\n{answer}\n{_TAGS.answer.close}"


def _question(task: Countdown) -> Piece:
    return Piece(f"{task.prompt}\n", False)


def _plan(stage: int, explorations: Sequence[Exploration]) -> str:
    prompts = (
        f"{_TAGS.prompt.open}{exploration.opening}{_TAGS.prompt.close}\n".format(stage=stage, number=index)
        for index, exploration in enumerate(explorations, 1)
    )
    return f"{_TAGS.plan.open.format(stage=stage)}\n{PLAN_OPENINGS[stage - 1]}{''.join(prompts)}"
