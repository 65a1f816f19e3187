"""What a planner's completion brings to an end as it streams in, in any dialect."""

from dataclasses import dataclass

from .diagnostics import Diagnostic


@dataclass(frozen=True, slots=True)
class PromptClosed:
    """A subtask may start: its executor reads the completion up to offset ``end``, exactly.

    ``number`` is the subtask's number within its stage, from 1; it waits for those that ``after`` names. ``rest`` is
    what its closing tag lacks at ``end``: nothing, or all of it where the model forgot it.
    """

    number: int
    prompt: str
    end: int
    rest: str = ""
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanClosed:
    """The plan ends at offset ``end``, with its closing tag or, as ``</Plan_``, the beginning of it."""

    end: int


@dataclass(frozen=True, slots=True)
class AnswerClosed:
    """The final answer ends at offset ``end``; ``text`` is all that it says, see ``answer_value``."""

    text: str
    end: int


@dataclass(frozen=True, slots=True)
class Found:
    """Something is not as it should be."""

    diagnostic: Diagnostic


Item = PromptClosed | PlanClosed | AnswerClosed | Found
