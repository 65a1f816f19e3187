"""Read one completion of a planner as it streams in: subtasks as they close, then the plan or the answer.

Invariants:

- The reader never raises on what a model wrote; a fault is a diagnostic beside the best reading of it.
- What it returns does not depend on how the text was cut into chunks. ``PromptClosed`` comes out with the chunk that
  holds the last character of ``</prompt_i.j>``.
- A chunk costs time in proportion to its own length.

Odd texts are read as follows. A number belongs to the first prompt that has it; later prompts with this number are not
dispatched, and neither are empty ones. An open prompt ends where the next prompt or the end of the plan begins. An
answer within a plan ends the plan. A plan or answer that is closed but was never opened is all of the text before. A
prompt that the token limit cuts off is not dispatched.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, assert_never

from sprint_agents.dialects.completions import Diagnostic, DiagnosticKind, PromptClosed, answer_value, excerpt
from sprint_agents.dialects.conversation import without_end_marks, without_marks
from sprint_agents.markup import markup

from .format import Tags
from .lexer import Lexer, Tag

Place = Literal["outside", "chain", "plan", "prompt", "answer", "after"]
"""A place in a completion: before the plan or the answer, in a chain of thought, in one of them, or after it."""


@dataclass(slots=True)
class _OpenPrompt:
    """A prompt that is being written; it is not ``dispatched`` if its number cannot be used."""

    number: int
    start: int
    dispatched: bool
    parts: list[str] = field(default_factory=list[str])


class TagPlanReader:
    r"""Read one stage: the planner's completion from before ``<Plan_i>`` or ``<Final_answer>`` to its stop.

    ``within`` says where the completion begins, if the runtime wrote the opening tag itself. Offsets count the
    characters that were fed.

    >>> from sprint_agents.dialects.tags.format import load_tags
    >>> reader = TagPlanReader(load_tags(), stage=1)
    >>> [*reader.feed("<Plan_1>\n<prompt_1.1>Add 1 an"), *reader.feed("d 2.</prompt_1.1>\n</Pl")]
    [PromptClosed(number=1, prompt='Add 1 and 2.', end=46, rest='', after=())]
    >>> [*reader.feed("an_"), *reader.close()], reader.plan
    ([], '\n<prompt_1.1>Add 1 and 2.</prompt_1.1>\n')
    """

    def __init__(
        self, tags: Tags, *, stage: int, within: Literal["outside", "chain", "plan", "answer"] = "outside"
    ) -> None:
        self._tags = tags
        self._lexer = Lexer(tags)
        self._place: Place = within
        self._offset = 0
        self._parts: list[str] = []
        self._parts_start = 0
        self._plan: list[str] | None = [] if within == "plan" else None
        self._around: list[str] = []
        self._open: _OpenPrompt | None = None
        self._last_number = 0
        self._closed: list[PromptClosed] = []
        self.stage = stage
        self.prompts: dict[int, PromptClosed] = {}
        """The dispatched prompts by number, in the order of the plan."""
        self.chain: str | None = None
        """The chain of thought before the plan or the answer."""
        self.answer: str | None = None
        """The final answer, closed or, after ``close``, cut off; see ``answer_value``."""
        self.diagnostics: list[Diagnostic] = []
        self.spans: list[Tag] = []
        """All tags of the plan and the answer, and those around them: everything that is not content."""

    @property
    def place(self) -> Place:
        """The place that the text has reached."""
        return self._place

    @property
    def text(self) -> str:
        """The text of the plan around its prompts."""
        return "".join(self._around).strip()

    @property
    def plan(self) -> str | None:
        """The text of the plan so far, without its own tags but with its prompts; None before it begins."""
        return None if self._plan is None else "".join(self._plan)

    def feed(self, text: str) -> list[PromptClosed]:
        """Read the next chunk; return the prompts that it completed, in the order of the text."""
        return self._read(self._lexer.feed(text), final=False)

    def close(self) -> list[PromptClosed]:
        """End the completion; return the prompts that only its end completes. Closing again returns nothing."""
        closed = self._read(self._lexer.close(), final=True)
        place, self._place = self._place, "after"
        match place:
            case "outside":
                self._end_outside("text_outside")
            case "chain":
                self._end_chain()
            case "plan" | "prompt":
                self._drop_prompt()
                self._report("unclosed_plan", f"plan {self.stage} has no closing tag", self._offset)
            case "answer":
                text = without_end_marks("".join(self._parts)).strip()
                self.answer = answer_value(text) if text else None
                self._report("unclosed_answer", "the answer has no closing tag", self._offset)
            case "after":
                self._end_outside("text_outside" if self.answer is None else "text_after_answer")
            case _:
                assert_never(place)
        self._parts = []
        return closed + self._take()

    def _read(self, pieces: Iterable[str | Tag], *, final: bool) -> list[PromptClosed]:
        for piece in pieces:
            if isinstance(piece, str):
                if self._place == "plan":
                    self._around.append(piece)
                self._add(piece)
            else:
                self._meet(piece, final=final)
        return self._take()

    def _take(self) -> list[PromptClosed]:
        closed, self._closed = self._closed, []
        return closed

    def _add(self, text: str) -> None:
        """Add ``text`` to the content of the current place."""
        if self._open is not None:
            self._open.parts.append(text)
        if self._place in ("plan", "prompt"):
            assert self._plan is not None
            self._plan.append(text)
        else:
            self._parts.append(text)
        self._offset += len(text)

    def _meet(self, tag: Tag, *, final: bool) -> None:
        """Act on a tag; in the answer and after it, tags are text."""
        if self._place == "after" or (self._place == "answer" and tag.name != "answer"):
            self._add(tag.text)
            return
        self.spans.append(tag)
        # The end of a completion cuts a closing tag short; anything else is misspelt by the model.
        if not (tag.exact or (final and not tag.complete)):
            self._report("misspelt_tag", f"{tag.text!r} is read as a tag of the kind {tag.name!r}", tag.start)
        match self._place:
            case "outside" | "chain":
                self._meet_before(tag)
            case "plan" | "prompt":
                self._meet_in_plan(tag)
            case "answer" if tag.closing:
                self._end_answer(tag)
            case "answer":
                # A model that is forced to answer may repeat the tag that the runtime wrote.
                self._report("unexpected_tag", f"{tag.text!r} begins the answer anew", tag.start)
                self._begin("answer", tag.end)
            case _:
                assert_never(self._place)

    def _meet_before(self, tag: Tag) -> None:
        match (tag.name, tag.closing):
            case ("plan", False):
                self._end_preamble()
                self._begin_plan(tag.end)
                self._check_stage(tag)
            case ("answer", False):
                self._end_preamble()
                self._begin("answer", tag.end)
            case ("chain", False) if self._place == "outside":
                self._end_outside("text_outside")
                self._begin("chain", tag.end)
            case ("chain", True) if self._place == "chain" or "".join(self._parts).strip():
                # Some chat templates open the chain of thought, so its opening tag may be missing.
                self._end_chain()
                self._begin("outside", tag.end)
            case ("prompt", False) if self._place == "outside":
                self._report("prompt_outside_plan", f"{tag.text!r} begins plan {self.stage}", tag.start)
                self._begin_plan(self._offset, text=self._parts)
                self._open_prompt(tag)
            case ("plan", True):
                self._report("unopened_tag", f"{tag.text!r} closes a plan without an opening tag", tag.start)
                self._begin_plan(self._offset, text=self._parts)
                self._end_plan(tag)
            case ("answer", True) if self._place == "outside":
                self._report("unopened_tag", f"{tag.text!r} closes an answer without an opening tag", tag.start)
                self._end_answer(tag)
            case _:
                self._misplaced(tag)

    def _meet_in_plan(self, tag: Tag) -> None:
        match (tag.name, tag.closing):
            case ("prompt", False):
                self._open_prompt(tag)
            case ("prompt", True) if self._open is not None:
                self._check_stage(tag, self._open.number)
                self._end_prompt(tag.end, written=tag.text)
                self._add(tag.text)
            case ("plan", True):
                self._end_plan(tag)
            case ("answer", False):
                self._report("answer_in_plan", f"the answer stands in plan {self.stage}, which ends there", tag.start)
                self._drop_prompt()
                self._begin("answer", tag.end)
            case _:
                self._misplaced(tag)

    def _misplaced(self, tag: Tag) -> None:
        """Take a tag that has no meaning here as text."""
        if tag.closing and tag.name not in ("executions", "execution"):
            self._report("unopened_tag", f"{tag.text!r} closes nothing", tag.start)
        else:
            self._report("unexpected_tag", f"{tag.text!r} does not belong here and is read as text", tag.start)
        self._add(tag.text)

    def _drop_prompt(self) -> None:
        """Drop a prompt that is cut off."""
        if self._open is not None:
            message = f"prompt {self._label(self._open.number)} is cut off; it is not dispatched"
            self._report("unclosed_prompt", message, self._open.start, self._open.number)
            self._open = None

    def _begin(self, place: Place, start: int) -> None:
        self._place = place
        self._open = None
        self._parts = []
        self._parts_start = self._offset = start

    def _begin_plan(self, start: int, *, text: Iterable[str] = ()) -> None:
        self._plan = list(text)
        self._begin("plan", start)

    def _open_prompt(self, tag: Tag) -> None:
        number = tag.numbers[-1]
        if self._open is not None:
            message = f"{tag.text!r} begins in prompt {self._label(self._open.number)}, which ends there"
            self._report("nested_prompt", message, tag.start, number)
            # The same number again restarts the same prompt.
            if self._open.number != number:
                self._end_prompt(tag.start)
        self._check_stage(tag)
        if number in self.prompts:
            message = f"prompt {self._label(number)} was given before; this one is not dispatched"
            self._report("duplicate_number", message, tag.start, number)
        elif number == 0:
            message = f"{tag.text!r} is not dispatched: prompts are numbered from 1"
            self._report("wrong_number", message, tag.start, number)
        elif number not in (self._last_number, self._last_number + 1):
            message = f"prompt {self._label(number)} follows prompt {self._label(self._last_number)}"
            self._report("skipped_number", message, tag.start, number)
        self._last_number = number
        self._add(tag.text)
        self._place = "prompt"
        self._open = _OpenPrompt(number, tag.start, number > 0 and number not in self.prompts)

    def _end_prompt(self, end: int, *, written: str = "") -> None:
        """Dispatch the open prompt unless it is empty; ``written`` is the part of its closing tag that is there."""
        assert self._open is not None
        opened, self._open, self._place = self._open, None, "plan"
        text = "".join(opened.parts).strip()
        if not text:
            message = f"prompt {self._label(opened.number)} is empty; it is not dispatched"
            self._report("empty_prompt", message, opened.start, opened.number)
        elif opened.dispatched:
            close = self._tags.prompt.close.format(stage=self.stage, number=opened.number)
            rest = markup(close.removeprefix(written)) if close.startswith(written) else ""
            item = PromptClosed(opened.number, text, end, rest)
            self.prompts[opened.number] = item
            self._closed.append(item)

    def _end_plan(self, tag: Tag) -> None:
        if self._open is not None:
            number = self._open.number
            message = f"prompt {self._label(number)} has no closing tag and ends where plan {self.stage} does"
            self._report("unclosed_prompt", message, self._open.start, number)
            self._end_prompt(tag.start)
        self._check_stage(tag)
        self._begin("after", tag.end)

    def _end_answer(self, tag: Tag) -> None:
        text = "".join(self._parts)
        self.answer = answer_value(text)
        if not text.strip():
            self._report("empty_answer", "the answer is empty", tag.start)
        self._begin("after", tag.end)

    def _end_preamble(self) -> None:
        if self._place == "chain":
            self._end_chain()
        else:
            self._end_outside("text_outside")

    def _end_chain(self) -> None:
        self.chain = (self.chain or "") + "".join(self._parts)

    def _end_outside(self, kind: Literal["text_outside", "text_after_answer"]) -> None:
        text = "".join(self._parts)
        self._parts = []
        if content := without_marks(text):
            position = self._parts_start + len(text) - len(text.lstrip())
            place = "outside plan and answer" if kind == "text_outside" else "after the answer"
            self._report(kind, f"{len(content)} characters {place} are ignored: {excerpt(content)}", position)

    def _check_stage(self, tag: Tag, number: int | None = None) -> None:
        """Report numbers in a tag that do not match its place; the place decides."""
        expected = (self.stage,) if number is None else (self.stage, number)
        if tag.numbers[: len(expected)] != expected[: len(tag.numbers)]:
            message = f"{tag.text!r} stands in the place of {self._label(number)!r}"
            self._report("wrong_number", message, tag.start, number)

    def _label(self, number: int | None) -> str:
        return f"{self.stage}" if number is None else f"{self.stage}.{number}"

    def _report(self, kind: DiagnosticKind, message: str, position: int, number: int | None = None) -> None:
        diagnostic = Diagnostic(kind=kind, message=message, stage=self.stage, number=number, position=position)
        self.diagnostics.append(diagnostic)
