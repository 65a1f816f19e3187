"""The data that a dialect reads from completions: subtasks, answers, results and tool calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .diagnostics import Diagnostic


class Span(Protocol):
    """A part of a completion, as character offsets."""

    @property
    def start(self) -> int:
        """The offset of the first character."""
        ...

    @property
    def end(self) -> int:
        """The offset after the last character."""
        ...


@dataclass(frozen=True, slots=True)
class PromptClosed:
    """A subtask that may start: its executor reads the completion up to offset ``end``.

    Attributes:
        number: the subtask's number within its stage, from 1.
        prompt: what the executor is asked to do.
        rest: text to append at ``end`` where the model forgot to close the prompt.
        after: the numbers of the subtasks that this one waits for.
    """

    number: int
    prompt: str
    end: int
    rest: str = ""
    after: tuple[int, ...] = ()


class PlanReader(Protocol):
    """Reads one completion of a planner while it streams in; never raises on what a model wrote."""

    @property
    def chain(self) -> str | None:
        """The chain of thought before the plan or the answer."""
        ...

    @property
    def plan(self) -> str | None:
        """The text of the plan so far; None before it begins."""
        ...

    @property
    def answer(self) -> str | None:
        """The final answer, in the form that the planner's type is read from."""
        ...

    @property
    def diagnostics(self) -> Sequence[Diagnostic]:
        """The faults found so far."""
        ...

    @property
    def spans(self) -> Sequence[Span]:
        """The parts of the completion that are markup rather than content, in order."""
        ...

    def feed(self, text: str) -> Sequence[PromptClosed]:
        """Read the next chunk and return the subtasks that it completed."""
        ...

    def close(self) -> Sequence[PromptClosed]:
        """End the completion and return the subtasks that only its end completes."""
        ...


class Result(NamedTuple):
    """An executor's turn that ends its execution; the runtime validates it.

    Attributes:
        text: the result alone.
        start: offset in the turn where thoughts and result begin; everything before is markup.
        end: offset where they end.
        is_json: read ``text`` as JSON only, so that ``"42"`` is a string.
    """

    text: str
    start: int
    end: int
    is_json: bool = False


class ToolCall(NamedTuple):
    """One call of a tool; ``arguments`` is a JSON object as text, unchecked."""

    tool: str
    arguments: str


class ToolCalls(NamedTuple):
    """An executor's turn that calls tools, all at the same time: at least one call, in the order written."""

    calls: tuple[ToolCall, ...]


Turn = Result | ToolCalls
"""An executor's completion."""
