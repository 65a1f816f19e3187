"""Find the parts of a finished trajectory in text, however it was logged.

Odd logs are read as follows. A plan ends at its closing tag, or where an execution, the next plan or the answer begins.
So does an execution, but a properly closed one may quote any tag of a plan. A plan whose number does not rise gets the
next number. An execution belongs to the plan before it, unless an earlier plan still lacks the execution of this
number. Tags in a chain of thought are ignored unless a plan ends there. The text before the first assistant's turn is
the question. An answer that the runtime has noted as invalid is replaced by the next one.
"""

from dataclasses import dataclass, field

from sprint_agents.dialects.completions import Diagnostic, DiagnosticKind, excerpt
from sprint_agents.dialects.conversation import assistant_turn, without_end_marks, without_marks

from .format import INVALID, Tags
from .lexer import Lexer, Tag
from .plans import TagPlanReader


@dataclass(slots=True)
class PlanPart:
    """A plan and the texts of its executions by number; the text of the plan begins at offset ``start``.

    ``text`` ends with a closing tag, the log's or an added one; offsets in ``reader`` count from the beginning of
    ``text``.
    """

    number: int
    start: int
    text: str
    reader: TagPlanReader
    executions: dict[int, str] = field(default_factory=dict[int, str])


@dataclass(slots=True)
class Outline:
    """The parts of a trajectory, in the order of the text."""

    question: str = ""
    chain: str | None = None
    plans: list[PlanPart] = field(default_factory=list[PlanPart])
    answer: str | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list[Diagnostic])


def outline(text: str, tags: Tags) -> Outline:
    """Find the parts of the trajectory in ``text``; O(characters), and never raises."""
    lexer = Lexer(tags)
    pieces = [*lexer.feed(text), *lexer.close()]
    outliner = _Outliner(text, tags, [piece for piece in pieces if isinstance(piece, Tag)])
    outliner.read()
    outliner.outline.diagnostics.sort(key=lambda diagnostic: diagnostic.position)
    return outliner.outline


class _Outliner:
    """``_next`` is the first unread tag, and ``_position`` the offset of the unread text."""

    def __init__(self, text: str, tags: Tags, found: list[Tag]) -> None:
        self._text = text
        self._tags = tags
        self._found = found
        self._next = 0
        self._position = 0
        self._numbered: dict[int, PlanPart] = {}
        self.outline = Outline()

    def read(self) -> None:
        self._read_head()
        while self.outline.answer is None and self._next < len(self._found):
            tag = self._found[self._next]
            match (tag.name, tag.closing):
                case ("plan", False):
                    self._read_plan(tag)
                case ("plan", True) if self._is_text_before(tag) and not self.outline.plans:
                    self._read_plan(tag)
                case ("execution", False):
                    self._read_execution(tag)
                case ("answer", False):
                    self._read_answer(tag)
                case ("answer", True) if self._is_text_before(tag):
                    self._read_answer(tag)
                case ("executions" | "chain", _):
                    self._leave(tag.start)
                    self._go(self._next, tag.end)
                case _:
                    self._leave(tag.start)
                    kind = "unopened_tag" if tag.closing else "unexpected_tag"
                    self._report(kind, f"{tag.text!r} does not belong here and is ignored", tag.start)
                    self._go(self._next, tag.end)
        self._leave(len(self._text))
        self._review()

    def _read_head(self) -> None:
        """Read the text before the first plan: the question, and a chain of thought."""
        # Tags before the turn are examples in a template, unless the log begins with a plan and has no template there.
        turn = assistant_turn(self._text, before=self._start(0))
        if not any(tag.start >= turn for tag in self._found):
            turn = 0
        first = self._index(0, turn)
        body = next((i for i in range(first, len(self._found)) if _is_body(self._found[i])), len(self._found))
        thought = next((i for i in range(first, body) if self._found[i].name == "chain"), None)
        if thought is not None:
            self._read_chain(thought, body, turn)
            return
        if turn or (body < len(self._found) and self._found[body].closing):
            # A plan or an answer that was never opened begins where the model began.
            self._go(first - 1, turn)
        else:
            self._go(body - 1, self._start(body))
        self.outline.question = self._text[: self._position]

    def _read_chain(self, thought: int, body: int, turn: int) -> None:
        """Read the chain of thought at tag ``thought``, which ends at ``body`` unless it has its own end."""
        opening = self._found[thought]
        if opening.closing:
            # Some chat templates open the chain of thought, so its opening tag may be missing.
            start, question, end = turn, turn, thought
        else:
            start, question, end = opening.end, opening.start, self._chain_end(thought)
        chain = self._text[start : self._start(body if end is None else end)]
        self.outline.chain = chain if chain.strip() else None
        self.outline.question = self._text[:question]
        if end is None:
            self._go(body - 1, self._start(body))
        else:
            self._go(end, self._found[end].end)

    def _chain_end(self, thought: int) -> int | None:
        """Find the tag that closes a chain of thought in which nothing is planned or executed."""
        for i in range(thought + 1, len(self._found)):
            tag = self._found[i]
            if (tag.name, tag.closing) in (("plan", True), ("execution", False)):
                return None
            if tag.name == "chain" and tag.closing:
                return i
        return None

    def _read_plan(self, tag: Tag) -> None:
        """Read a plan from its opening tag, or up to a closing tag that has none."""
        number = self._plan_number(tag)
        if tag.closing:
            self._report("unopened_tag", f"{tag.text!r} closes a plan without an opening tag", tag.start)
            start, end = self._position, self._next
        else:
            self._leave(tag.start)
            self._check_form(tag)
            start, end = tag.end, self._plan_end()
        closed = end < len(self._found) and self._found[end].name == "plan" and self._found[end].closing
        stop = self._found[end].end if closed else self._start(end)
        text = self._text[start:stop]
        if not closed:
            self._report("unclosed_plan", f"plan {number} has no closing tag", stop)
            text = without_end_marks(text) if stop == len(self._text) else text
            text += self._tags.plan.close.format(stage=number)
        reader = TagPlanReader(self._tags, stage=number, within="plan")
        reader.feed(text)
        reader.close()
        for diagnostic in reader.diagnostics:
            position = diagnostic.position + start
            self.outline.diagnostics.append(diagnostic.model_copy(update={"position": position}))
        self._numbered[number] = PlanPart(number, start, text, reader)
        self.outline.plans.append(self._numbered[number])
        self._go(end if closed else end - 1, stop)

    def _plan_end(self) -> int:
        """Find the tag that closes this plan or ends it; a plan may name executions in tags."""
        execution: int | None = None
        for i in range(self._next + 1, len(self._found)):
            tag = self._found[i]
            if tag.name == "plan" and tag.closing:
                return i
            if tag.name in ("plan", "answer") and not tag.closing:
                return i if execution is None else execution
            if execution is None and tag.name in ("executions", "execution") and not tag.closing:
                execution = i
        return len(self._found) if execution is None else execution

    def _plan_number(self, tag: Tag) -> int:
        previous = self.outline.plans[-1].number if self.outline.plans else 0
        number = tag.numbers[0] if tag.numbers else previous + 1
        if number <= previous:
            self._report("duplicate_number", f"plan {number} follows plan {previous}: read as the next", tag.start)
            return previous + 1
        if number > previous + 1:
            self._report("skipped_number", f"plan {number} follows plan {previous}", tag.start)
        return number

    def _read_execution(self, tag: Tag) -> None:
        self._leave(tag.start)
        self._check_form(tag)
        stage, number = tag.numbers
        end = self._execution_end(tag)
        # The runtime writes the line break after the opening tag, as it does the tag.
        content = self._text[tag.end : self._start(end)].removeprefix("\n")
        closed = end < len(self._found) and self._found[end].name == "execution" and self._found[end].closing
        plan = self._plan_of(stage, number)
        if closed:
            self._check_form(self._found[end])
            if self._found[end].numbers not in ((), (stage,), tag.numbers):
                self._report("wrong_number", f"{self._found[end].text!r} closes {tag.text!r}", self._found[end].start)
        else:
            self._report("unclosed_execution", f"execution {stage}.{number} has no closing tag", tag.start, number)
            content = without_end_marks(content) if end == len(self._found) else content
        if plan is None:
            message = f"execution {stage}.{number} precedes all plans and is ignored"
            self._report("stray_execution", message, tag.start, number)
        else:
            self._assign(plan, tag, content)
        self._go(end if closed else end - 1, self._found[end].end if closed else self._start(end))

    def _plan_of(self, stage: int, number: int) -> PlanPart | None:
        """Find the plan of an execution: the last one, or an earlier one that still waits for it."""
        plan = self._numbered.get(stage)
        if plan is not None and number in plan.reader.prompts and number not in plan.executions:
            return plan
        return self.outline.plans[-1] if self.outline.plans else None

    def _assign(self, plan: PlanPart, tag: Tag, content: str) -> None:
        """Give a plan the text of an execution."""
        stage, number = tag.numbers
        if stage != plan.number:
            message = f"{tag.text!r} follows plan {plan.number} and is read as its own"
            self._report("wrong_number", message, tag.start, number)
        if number in plan.executions:
            message = f"execution {plan.number}.{number} was given before; this one is ignored"
            self._report("duplicate_number", message, tag.start, number)
            return
        if number not in plan.reader.prompts:
            self._report("stray_execution", f"execution {plan.number}.{number} has no prompt", tag.start, number)
        plan.executions[number] = content

    def _execution_end(self, opening: Tag) -> int:
        """Find the tag that closes this execution or ends it."""
        body: int | None = None
        for i in range(self._next + 1, len(self._found)):
            tag = self._found[i]
            if tag.name in ("execution", "executions"):
                closing = tag.name == "execution" and tag.closing
                quoted = closing and tag.numbers == opening.numbers
                return i if quoted or body is None else body
            if body is None and tag.name in ("plan", "answer") and not tag.closing:
                body = i
        return len(self._found) if body is None else body

    def _read_answer(self, tag: Tag) -> None:
        self._check_form(tag)
        if tag.closing:
            self._report("unopened_tag", f"{tag.text!r} closes an answer without an opening tag", tag.start)
            start, end = self._position, self._next
        else:
            self._leave(tag.start)
            start, end = tag.end, self._answer_end()
        answer = self._text[start : self._start(end)]
        if end == len(self._found):
            self._report("unclosed_answer", "the answer has no closing tag", len(self._text))
            answer = without_end_marks(answer)
        elif not answer.strip():
            self._report("empty_answer", "the answer is empty", tag.start)
        self.outline.answer = answer
        self._go(end, self._found[end].end if end < len(self._found) else len(self._text))
        if self._is_corrected():
            self.outline.answer = None
            self._position = self._start(self._next)

    def _is_corrected(self) -> bool:
        """Tell whether the runtime has noted that the answer is invalid, so that another one follows."""
        before, after = INVALID.split("{error}")
        note = self._text[self._position : self._start(self._next)].strip()
        follows = self._next < len(self._found) and self._found[self._next].name == "answer"
        return follows and not self._found[self._next].closing and note.startswith(before) and note.endswith(after)

    def _answer_end(self) -> int:
        """Find the tag that closes this answer, which may quote any other."""
        for i in range(self._next + 1, len(self._found)):
            if self._found[i].name == "answer" and self._found[i].closing:
                return i
        return len(self._found)

    def _review(self) -> None:
        """Report what is missing in the trajectory as a whole."""
        for plan in self.outline.plans:
            for number, prompt in plan.reader.prompts.items():
                if number not in plan.executions:
                    # An added closing tag lies after the end of the text.
                    position = min(plan.start + prompt.end, len(self._text))
                    message = f"prompt {plan.number}.{number} has no execution"
                    self._report("missing_execution", message, position, number, stage=plan.number)
        if not self.outline.plans and self.outline.chain is None:
            self._report("no_plan", "the text holds no plan", 0)
        if self.outline.answer is None:
            self._report("no_answer", "the text holds no final answer", len(self._text))

    def _is_text_before(self, tag: Tag) -> bool:
        return bool(without_marks(self._text[self._position : tag.start]))

    def _index(self, first: int, position: int) -> int:
        """Find the first tag at or after ``position``, from tag ``first`` on."""
        return next((i for i in range(first, len(self._found)) if self._found[i].start >= position), len(self._found))

    def _start(self, index: int) -> int:
        """Return where a tag begins; after the last tag, the end of the text."""
        return self._found[index].start if index < len(self._found) else len(self._text)

    def _go(self, index: int, position: int) -> None:
        """Continue after tag ``index``, at ``position``."""
        self._next = index + 1
        self._position = position

    def _leave(self, end: int) -> None:
        """Skip text up to ``end`` that belongs to no part."""
        text = self._text[self._position : end]
        if content := without_marks(text):
            after = self.outline.answer is not None
            kind, place = ("text_after_answer", "after the answer") if after else ("text_outside", "outside all parts")
            position = self._position + len(text) - len(text.lstrip())
            self._report(kind, f"{len(content)} characters {place} are ignored: {excerpt(content)}", position)

    def _check_form(self, tag: Tag) -> None:
        if not tag.exact:
            self._report("misspelt_tag", f"{tag.text!r} is read as a tag of the kind {tag.name!r}", tag.start)

    def _report(
        self, kind: DiagnosticKind, message: str, position: int, number: int | None = None, *, stage: int | None = None
    ) -> None:
        """Record a diagnostic, of the last plan unless another ``stage`` is given."""
        if stage is None:
            stage = self.outline.plans[-1].number if self.outline.plans else 0
        diagnostic = Diagnostic(kind=kind, message=message, stage=stage, number=number, position=position)
        self.outline.diagnostics.append(diagnostic)


def _is_body(tag: Tag) -> bool:
    """Tell whether a tag begins or ends what a planner or an executor writes."""
    return tag.name in ("plan", "answer") or (tag.name == "execution" and not tag.closing)
