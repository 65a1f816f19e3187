"""Traces: the same work as one sequential chain and as a SPRINT trajectory.

Every task writes its work as a ``Solved``; the chain, the planner's path and the executors' paths are made from that
alone, so chain and executors share their words.

A *call* is one request of a run: a context, cut into the pieces in which the runtime writes or receives it,
and the completion that the model writes there. Pieces are encoded one by one, in training as in a run, so
both see the same token ids.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.nano.tasks import Task

NAMES = "ABCDEFGHI"
"""What a trace calls the values of its subtasks."""

WORDS = ("Now", "check", "so", *(f" {name}" for name in NAMES))
"""The words of several tasks' traces that are one token."""

_SLIPS = (-20, -10, -2, -1, 1, 2, 10, 20)

_TAGS = load_tags(1)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a call: ``learned`` says how much it counts in training, from 0, what is only read, to 1."""

    text: str
    learned: float


@dataclass(frozen=True, slots=True)
class Subtask:
    """What a prompt delegates and what its executor writes.

    A piece that is not learned is a slip: a wrong value that what follows finds and mends. So a model learns to
    check and to mend, and never to slip.
    """

    prompt: str
    pieces: tuple[Piece, ...]
    heading: str = ""
    """The line that opens it in the chain, in the prompt's place."""
    found: bool = False
    """Whether it met what was searched for: the chain ends there, and its siblings were not needed."""

    @property
    def text(self) -> str:
        """All that the executor writes, slips included."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: how its plan opens, and what it delegates."""

    lead: str
    subtasks: tuple[Subtask, ...]


@dataclass(frozen=True, slots=True)
class Solved:
    """A task with its work: ``answer`` is what the final answer holds, ``solved`` whether it is one."""

    task: Task
    stages: tuple[Stage, ...]
    answer: str
    solved: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """One path of a trajectory: all requests whose contexts are prefixes of one another."""

    role: Literal["planner", "executor", "chain"]
    pieces: tuple[Piece, ...]
    found: bool = False


def slip(rng: random.Random, value: int, *, largest: int) -> int:
    """Draw a wrong value near the right one, from 0 to ``largest``; never wrong by a multiple of nine."""
    return rng.choice([wrong for by in _SLIPS if 0 <= (wrong := value + by) <= largest])


def chain(solved: Solved) -> Call:
    """Write the sequential trace: subtasks one after the other, up to one that found what was searched for."""
    pieces: list[Piece] = []
    for stage in solved.stages:
        pieces.append(Piece(stage.lead, True))
        for subtask in stage.subtasks:
            pieces += [Piece(subtask.heading, True), *subtask.pieces]
            if subtask.found:
                break
    pieces.append(Piece(f"{_TAGS.chain.close}\n{_answer(solved)}", True))
    opened = Piece(f"{_TAGS.chain.open}\n", False)
    return Call("chain", (_question(solved), opened, *_merged(pieces)), solved.solved)


def complete(solved: Solved) -> str:
    """Write the sequential trace that curation reads: the chain's words, but no subtask ends it.

    A chain that stops at its first find says nothing of the siblings that a parallel run has started by then. This
    one carries out every subtask of each stage that it enters.
    """
    stages = (
        stage.lead + "".join(subtask.heading + subtask.text for subtask in stage.subtasks) for stage in solved.stages
    )
    return f"{''.join(stages)}{_TAGS.chain.close}\n{solved.answer}\n"


def planner(solved: Solved, *, rehearsal: float = 0.0) -> Call:
    """Write the planner's path: plans and the answer are learned, joined executions are read.

    ``rehearsal`` says how much joined executions are learned, too: their facts once more, behind their siblings.
    Executions with a slip are read at all times.
    """
    pieces = [_question(solved)]
    for number, stage in enumerate(solved.stages, 1):
        pieces += [Piece(_plan(number, stage) + _TAGS.stops.plan[0], True)]
        joined = f"{number}>\n{_TAGS.executions.open.format(stage=number)}\n"
        for index, subtask in enumerate(stage.subtasks, 1):
            label = f"{number}.{index}"
            joined += f"<execution_{label}>\n"
            share = rehearsal * min(piece.learned for piece in subtask.pieces)
            pieces += [Piece(joined, False), Piece(subtask.text + _TAGS.stops.execution[0], share)]
            joined = f"{label}>\n"
        pieces.append(Piece(joined + f"{_TAGS.executions.close.format(stage=number)}\n", False))
    pieces.append(Piece(_answer(solved), True))
    return Call("planner", tuple(pieces), solved.solved)


def executors(solved: Solved) -> Iterator[Call]:
    """Write the executors' paths: each reads the planner's path up to the end of its own prompt."""
    path = planner(solved).pieces
    position = 0
    for number, stage in enumerate(solved.stages, 1):
        while not path[position].learned:
            position += 1
        plan = path[position].text
        before = tuple(Piece(piece.text, False) for piece in path[:position])
        for index, subtask in enumerate(stage.subtasks, 1):
            close = _TAGS.prompt.close.format(stage=number, number=index)
            yield Call(
                "executor",
                (
                    *before,
                    Piece(plan[: plan.index(close) + len(close)], False),
                    Piece(f"\n<execution_{number}.{index}>\n", False),
                    *_merged([*subtask.pieces, Piece(_TAGS.stops.execution[0], True)]),
                ),
                subtask.found,
            )
        position += 1


def _merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Join neighbours of a kind: a request of a run is one piece."""
    for learned, run in itertools.groupby(pieces, key=lambda piece: piece.learned):
        yield Piece("".join(piece.text for piece in run), learned)


def _answer(solved: Solved) -> str:
    """Write the last request of either mode."""
    return f"{_TAGS.answer.open}\n{solved.answer}\n{_TAGS.answer.close}"


def _question(solved: Solved) -> Piece:
    return Piece(f"{solved.task.prompt}\n", False)


def _plan(number: int, stage: Stage) -> str:
    """Write a plan. No line break follows a tag: it would be a token on the critical path that says nothing."""
    prompts = (
        f"{_TAGS.prompt.open}{subtask.prompt}{_TAGS.prompt.close}".format(stage=number, number=index)
        for index, subtask in enumerate(stage.subtasks, 1)
    )
    return f"{_TAGS.plan.open.format(stage=number)}{stage.lead}{''.join(prompts)}"
