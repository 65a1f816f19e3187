"""Traces: the same work as one sequential chain and as a SPRINT trajectory.

Every task describes its work as a ``Solution``. The chain, the planner's path and the executors' paths are all
written from it, so the chain and the executors use the same words. See ``training.calls`` for calls and pieces.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.nano.tasks import Task
from sprint_finetune.training.calls import Call, Piece

NAMES = "ABCDEFGHI"
"""Names that a trace gives to the values of its subtasks."""

WORDS = ("Now", "check", "so", *(f" {name}" for name in NAMES))
"""Words shared by the traces of several tasks. Each is one token."""

_SLIPS = (-20, -10, -2, -1, 1, 2, 10, 20)

_TAGS = load_tags(1)


@dataclass(frozen=True, slots=True)
class SolutionSubtask:
    """A prompt and what its executor writes.

    A piece that is not learned is a slip: a wrong value that the following lines detect and correct. A model
    therefore learns to check and to correct, but never to slip.
    """

    prompt: str
    pieces: tuple[Piece, ...]
    heading: str = ""
    """The line that opens the subtask in the chain, which has no prompt."""
    found: bool = False
    """Whether the subtask found what was searched for. The chain ends there, since the siblings are not needed."""

    @property
    def text(self) -> str:
        """Everything that the executor writes, including slips."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class SolutionStage:
    """One stage: the opening of its plan, and its subtasks.

    ``joined`` are the numbers of the executions that the planner reads. Others were cut off, because one of these
    settled the stage. None for all.
    """

    lead: str
    subtasks: tuple[SolutionSubtask, ...]
    joined: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """A task worked out in full. ``answer`` is the text of the final answer; ``solved`` is False if none was found.

    ``thought`` is what the planner writes before its first plan. It answers at once if there are no ``stages``.
    """

    task: Task
    stages: tuple[SolutionStage, ...]
    answer: str
    solved: bool = True
    thought: tuple[Piece, ...] = ()


def slip(rng: random.Random, value: int, *, largest: int) -> int:
    """Draw a wrong value near ``value``, from 0 to ``largest``. The error is never a multiple of nine.

    Casting out nines would not detect an error that is a multiple of nine.
    """
    return rng.choice([wrong for by in _SLIPS if 0 <= (wrong := value + by) <= largest])


def chain(solution: Solution) -> Call:
    """Write the sequential trace: subtasks one after the other, until one finds what was searched for."""
    pieces = [*_chained(solution), Piece(f"{_TAGS.chain.close}\n{_answer(solution)}", True)]
    opened = Piece(f"{_TAGS.chain.open}\n", False)
    return Call("chain", (_question(solution), opened, *_merged(pieces)), solution.solved)


def in_chain(solution: Solution) -> Solution:
    """Let the planner think the chain instead of planning: the mode for problems whose plan would take longer."""
    return replace(solution, stages=(), thought=(*solution.thought, *_chained(solution)))


def _chained(solution: Solution) -> Iterator[Piece]:
    for stage in solution.stages:
        yield Piece(stage.lead, True)
        for subtask in stage.subtasks:
            yield Piece(subtask.heading, True)
            yield from subtask.pieces
            if subtask.found:
                return


def complete(solution: Solution) -> str:
    """Write the sequential trace for curation: the chain's words, with every subtask of each stage it enters.

    ``chain`` stops at the first find and says nothing about the siblings, but a parallel run has already started them
    by then. This trace carries out all of them.
    """
    stages = (
        stage.lead + "".join(subtask.heading + subtask.text for subtask in stage.subtasks) for stage in solution.stages
    )
    return f"{''.join(stages)}{_TAGS.chain.close}\n{solution.answer}\n"


def planner(solution: Solution, *, rehearsal: float = 0.0) -> Call:
    """Write the planner's path. Thoughts, plans and the answer are learned; joined executions are context.

    ``rehearsal`` is the weight with which joined executions are learned too, this time after their siblings.
    Executions that contain a slip always have weight 0 here.
    """
    pieces = [_question(solution)]
    thought = _thought(solution)
    for number, stage in enumerate(solution.stages, 1):
        pieces += [*_merged([*thought, Piece(_plan(number, stage) + _TAGS.stops.plan[0], True)])]
        pieces += _join(number, stage, rehearsal=rehearsal)
        thought = []
    pieces += _merged([*thought, Piece(_answer(solution), True)])
    return Call("planner", tuple(pieces), solution.solved)


def completions(solution: Solution) -> list[list[str]]:
    """Return what the planner writes in each of its requests, cut after each prompt: there an executor may start."""
    thought = "".join(piece.text for piece in _thought(solution))
    made: list[list[str]] = []
    for number, stage in enumerate(solution.stages, 1):
        parts = [f"{thought}{_TAGS.plan.open.format(stage=number)}{stage.lead}", *_prompts(number, stage)]
        if stage.subtasks:
            parts[:2] = ["".join(parts[:2])]
        made.append([*parts, _TAGS.stops.plan[0]])
        thought = ""
    return [*made, [thought + _answer(solution)]]


def executors(solution: Solution) -> Iterator[Call]:
    """Write the executors' paths. Each reads the planner's path up to the end of its prompt."""
    before = [_question(solution)]
    thought = "".join(piece.text for piece in _thought(solution))
    for number, stage in enumerate(solution.stages, 1):
        plan = thought + _plan(number, stage)
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
        before += [Piece(plan + _TAGS.stops.plan[0], False)]
        before += [Piece(piece.text, False) for piece in _join(number, stage)]
        thought = ""


def _join(number: int, stage: SolutionStage, *, rehearsal: float = 0.0) -> Iterator[Piece]:
    """Write what the planner reads after its plan."""
    text = f"{number}>\n{_TAGS.executions.open.format(stage=number)}\n"
    for index, subtask in enumerate(stage.subtasks, 1):
        if stage.joined is None or index in stage.joined:
            label = f"{number}.{index}"
            share = rehearsal * min(piece.learned for piece in subtask.pieces)
            yield Piece(f"{text}<execution_{label}>\n", False)
            yield Piece(subtask.text + _TAGS.stops.execution[0], share)
            text = f"{label}>\n"
    yield Piece(f"{text}{_TAGS.executions.close.format(stage=number)}\n", False)


def _thought(solution: Solution) -> list[Piece]:
    if not solution.thought:
        return []
    return [Piece(f"{_TAGS.chain.open}\n", True), *solution.thought, Piece(f"{_TAGS.chain.close}\n", True)]


def _merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Join neighbours of equal weight, because a run encodes each request as one piece."""
    for learned, run in itertools.groupby(pieces, key=lambda piece: piece.learned):
        yield Piece("".join(piece.text for piece in run), learned)


def _answer(solution: Solution) -> str:
    """Write the last completion, which both modes share."""
    return f"{_TAGS.answer.open}\n{solution.answer}\n{_TAGS.answer.close}"


def _question(solution: Solution) -> Piece:
    return Piece(f"{solution.task.prompt}\n", False)


def _plan(number: int, stage: SolutionStage) -> str:
    """Write a plan. A line break after a tag would add a token to the critical path, so there is none."""
    return f"{_TAGS.plan.open.format(stage=number)}{stage.lead}{''.join(_prompts(number, stage))}"


def _prompts(number: int, stage: SolutionStage) -> Iterator[str]:
    for index, subtask in enumerate(stage.subtasks, 1):
        yield f"{_TAGS.prompt.open}{subtask.prompt}{_TAGS.prompt.close}".format(stage=number, number=index)
