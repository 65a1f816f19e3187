"""The data that a dialect reads from completions: subtasks, answers, results, tool calls, and what was odd."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

DiagnosticKind = Literal[
    # The form and number of a tag.
    "misspelt_tag",
    "wrong_number",
    "duplicate_number",
    "skipped_number",
    # The place of a tag.
    "unopened_tag",
    "unexpected_tag",
    "prompt_outside_plan",
    "nested_prompt",
    "answer_in_plan",
    # JSON.
    "malformed_json",
    # A copy of the prompt.
    "placeholder",
    "copied_prompt",
    # Dependencies.
    "odd_dependency",
    # Unclosed and empty parts.
    "unclosed_plan",
    "unclosed_prompt",
    "unclosed_execution",
    "unclosed_answer",
    "empty_prompt",
    "empty_answer",
    # Text between the parts.
    "text_outside",
    "text_after_answer",
    # A finished trajectory as a whole.
    "missing_execution",
    "stray_execution",
    "no_plan",
    "no_answer",
    "undecodable_bytes",
    # A completion as a whole, or compared with the one before it.
    "cut_off",
    "nothing_written",
    "repeated_plan",
    # A function of the program.
    "hook_failed",
]
"""The closed set of faults in what a model wrote, in the file that contains it, or of a hook that has looked at it."""


class Diagnostic(BaseModel):
    """One fault in a text, and how it was read nevertheless.

    ``position`` is a character offset into the text. ``stage`` is 0 if the fault concerns no stage, and ``number`` is
    the subtask's number within its stage, if it concerns one.

    >>> Diagnostic(kind="empty_prompt", message="prompt 1.2 is empty", stage=1, number=2, position=70).kind
    'empty_prompt'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    kind: DiagnosticKind
    message: str
    stage: int
    number: int | None = None
    position: int


def excerpt(text: str) -> str:
    """Quote the beginning of ``text``, in one line."""
    return repr(text if len(text) <= 40 else text[:40] + "…")


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
        rest: text to append at ``end`` where the model forgot to close the prompt; see ``sprint_agents.markup``.
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
    def text(self) -> str:
        """The text of the plan around its subtasks, without any markup, as ``Plan.text`` has it."""
        return ""

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
        fault: why it is no result, whatever its type, in words for the model; empty if it may be one.
    """

    text: str
    start: int
    end: int
    is_json: bool = False
    fault: str = ""


class ToolCall(NamedTuple):
    """One call of a tool; ``arguments`` is a JSON object as text, unchecked."""

    tool: str
    arguments: str


class ToolCalls(NamedTuple):
    """An executor's turn that calls tools, all at the same time: at least one call, in the order written."""

    calls: tuple[ToolCall, ...]


Turn = Result | ToolCalls
"""An executor's completion."""


_TOKEN = re.compile(r"(?P<boxed>\\{1,3}boxed\s*\{)|\\.|[{}]", re.DOTALL)


def boxed(text: str) -> str | None:
    r"""Return the content of the last closed ``\boxed{…}``, braces balanced; None if there is none.

    ``\{`` and ``\}`` do not count as braces; the backslash itself may be doubled, as in escaped logs. O(characters).

    >>> boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    content: str | None = None
    opened: list[int | None] = []
    for match in _TOKEN.finditer(text):
        if match["boxed"]:
            opened.append(match.end())
        elif match.group() == "{":
            opened.append(None)
        elif match.group() == "}" and opened:
            start = opened.pop()
            if start is not None:
                content = text[start : match.start()]
    return None if content is None else content.strip()


def answer_value(text: str) -> str:
    r"""Return the content of an answer's ``\boxed{…}``, or its whole text if it has none.

    >>> answer_value(r"Based on execution_1.2: \boxed{25+7*3}"), answer_value(" no solution found ")
    ('25+7*3', 'no solution found')
    """
    value = boxed(text)
    return text.strip() if value is None else value
