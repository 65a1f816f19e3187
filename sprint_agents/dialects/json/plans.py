"""Read a planner's completion in JSON while it streams in: subtasks as they close, then the plan or the answer.

Invariants:

- The reader never raises on what a model wrote; a fault is a diagnostic beside the best reading of it.
- What it returns does not depend on how the text was cut into chunks. A subtask comes out with the chunk that holds its
  last character, which is when its ``after`` is known.
- A chunk costs time in proportion to its own length.

Odd texts are read as follows. A subtask's number is its position in the plan; empty subtasks, and those that only copy
what the model was told, are counted but not dispatched. ``after`` names earlier subtasks; anything else in it is
ignored. A plan that also answers is a plan, since its subtasks have started. A plan is no answer, even if one was asked
for. Text after the plan or the answer is ignored. Whatever the token limit cuts off is not dispatched.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from sprint_agents.dialects.base import Form
from sprint_agents.dialects.completions import Diagnostic, DiagnosticKind, PromptClosed, answer_value, excerpt
from sprint_agents.dialects.conversation import without_marks

from .container import Path, Value
from .scanner import JsonScanner
from .values import is_placeholder, read_scanned, read_string, unwrap, whole_string, write
from .words import JsonKeys, normal, pick

_FEWEST_COPIED = 3
"""Fewer words may be the same by chance."""
_LAST_NUMBER = re.compile(r"([0-9]{1,9})\W*$")


class Markup(NamedTuple):
    """A part of a completion that is not content: keys, brackets, quotes, the end mark."""

    start: int
    end: int


class JsonPlanReader:
    r"""Read one stage: the planner's turn from its beginning to its end.

    Args:
        keys: the names of keys.
        stage: the number of the plan in the context.
        form: what the planner was asked for.
        marks: texts that end its turn.
        typed: its answer has a type other than ``str``.
        told: what the model was told, in small letters, of which a prompt may be a copy.
        copies: the prompts and the answer of the example that it has read; its own may be copies of them.
        thinking: the completion begins within thoughts.

    >>> from sprint_agents.dialects.json.words import load_words
    >>> reader = JsonPlanReader(load_words().keys, stage=1)
    >>> reader.feed('{"subtasks": [{"prompt": "Add 1 and 2."}, {"prompt": "Double it.", "after": [1]')
    [PromptClosed(number=1, prompt='Add 1 and 2.', end=40, rest='', after=())]
    >>> reader.feed('}]}')
    [PromptClosed(number=2, prompt='Double it.', end=80, rest='', after=(1,))]
    """

    def __init__(
        self,
        keys: JsonKeys,
        *,
        stage: int,
        form: Form = "plan",
        marks: Iterable[str] = (),
        typed: bool = False,
        told: str = "",
        copies: Sequence[JsonValue] = (),
        thinking: bool = False,
    ) -> None:
        self._keys = keys
        # A planner that must answer and writes a result means its answer; one that may plan may be an executor as well.
        self._answer_keys = keys.answer if form == "plan" else (*keys.answer, *keys.result)
        self._form = form
        self._typed = typed
        self._told = told
        self._copies = copies
        self._scanner = JsonScanner(tuple(marks), arrays=form == "plan", thinking=thinking)
        self._subtasks: list[PromptClosed] = []
        self._count = 0
        self._names: dict[str, int] = {}
        self._plans = False
        self._prompt: Value | None = None
        self._answer: Value | None = None
        self._answer_start: int | None = None
        self._answer_end = 0
        self._answer_text: str | None = None
        self._unkeyed: Value | None = None
        self._over = False
        self._marked = 0
        self._plan_span: tuple[int, int] | None = None
        self._closed = False
        self.stage = stage
        self.prompts: dict[int, PromptClosed] = {}
        """The dispatched subtasks by number, in the order of the plan."""
        self._beside: Value | None = None
        self.chain: str | None = None
        """The thoughts before the plan or the answer; of a chain, everything before the answer."""
        self.diagnostics: list[Diagnostic] = []
        self.spans: list[Markup] = []
        """Everything that is not content, in order."""

    @property
    def text(self) -> str:
        """The thoughts that the JSON has beside its subtasks."""
        return "" if self._beside is None else str(self._value(self._beside))

    @property
    def plan(self) -> str | None:
        """The JSON of the plan so far; None before it begins."""
        scanner = self._scanner
        if self._plan_span is not None:
            return scanner.slice(*self._plan_span)
        begun = scanner.begun
        return scanner.slice(begun, scanner.length) if begun is not None and self._plans else None

    @property
    def answer(self) -> str | None:
        """The final answer: JSON if it is ``typed``, otherwise a text; see ``answer_value``."""
        return self._answer_text if self._typed or self._answer_text is None else answer_value(self._answer_text)

    def feed(self, text: str) -> list[PromptClosed]:
        """Read the next chunk; return the subtasks that it completed, in the order of the text."""
        return self._read(self._scanner.feed(text))

    def close(self) -> list[PromptClosed]:
        """End the completion; return the subtasks that only its end completes. Closing again returns nothing."""
        if self._closed:
            return []
        self._closed = True
        scanner = self._scanner
        subtasks = self._read(scanner.close())
        self._forget_thoughts()
        words = without_marks(scanner.words())
        if not self._over:
            self._cut_off(words)
        if words and self._form == "plan":
            self._report("text_outside", f"{len(words)} characters outside of JSON are ignored: {excerpt(words)}", 0)
        if self._form == "plan" and self._plan_span is not None and not self.prompts:
            faults = "; ".join(fault.message for fault in self.diagnostics)
            self._report("no_plan", faults or "the plan has no subtasks", self._plan_span[0])
        self.chain = scanner.thoughts
        if self._form == "chain":
            self.chain = scanner.slice(0, scanner.end if self._answer_start is None else self._answer_start)
        if scanner.ended:
            self.spans.append(Markup(scanner.end, scanner.length))
        return subtasks

    def _read(self, values: Iterable[Value]) -> list[PromptClosed]:
        for value in values:
            if self._over and value.start >= self._scanner.thoughts_end:
                self._forget_thoughts()
            # A chain may name answers on its way: the last one counts.
            if not self._over or self._form == "chain":
                self._meet(value)
        subtasks, self._subtasks = self._subtasks, []
        return subtasks

    def _forget_thoughts(self) -> None:
        """Withdraw an answer that was part of thoughts, whose opening mark is not in the text."""
        if self._over and not self._plans and self._scanner.thoughts_end > self._answer_end:
            self._over, self._answer_text, self._answer_start = False, None, None

    def _meet(self, value: Value) -> None:
        """Interpret a value by its path."""
        match value.path:
            case ():
                self._end_root(value)
            case (str(key),):
                self._meet_key(key, value)
            case (*_, int()) if self._form == "plan" and self._is_plan(value.path[:-1]):
                self._subtask(value)
            case (*_, int(), str(key)) if normal(key) in self._keys.prompt and self._is_plan(value.path[:-2]):
                self._prompt = value
                self._content(value)
            case (*_, str()) if self._form == "plan" and self._is_plan(value.path):
                self._plans = self._plans or value.kind == "array"
            case _:
                pass

    def _meet_key(self, key: str, value: Value) -> None:
        """Interpret a value of the outermost object."""
        name = normal(key)
        if name in self._keys.thoughts and value.kind == "string":
            self._content(value)
            self._beside = value
        elif name in self._answer_keys:
            if self._value(value) is not None:
                self._answer = value
                self._content(value)
            else:
                self._answer = self._answer or value
        elif self._form == "plan" and name in self._keys.subtasks:
            self._plans = self._plans or value.kind == "array"

    def _value(self, value: Value) -> JsonValue:
        return read_scanned(self._scanner, value)[0]

    def _json(self, value: Value) -> str:
        return read_scanned(self._scanner, value)[1]

    def _is_plan(self, path: Path) -> bool:
        """Whether an array at ``path`` lists subtasks, as an array at the root does."""
        names = self._keys.subtasks
        return path == names[:1] or all(isinstance(key, str) and normal(key) in names for key in path)

    def _content(self, value: Value) -> None:
        start, end = value.content
        self._mark(value.root, start)
        self._marked = max(self._marked, end)

    def _mark(self, root: int, end: int) -> None:
        """Note that everything from ``root`` to ``end`` that is not content is markup."""
        start = max(self._marked, root)
        if end > start:
            self.spans.append(Markup(start, end))
            self._marked = end

    def _subtask(self, value: Value) -> None:
        """Dispatch a subtask, unless its prompt is empty."""
        self._plans = True
        self._count += 1
        number = self._count
        written = self._value(value)
        prompt, self._prompt = self._prompt_of(written), None
        if fault := self._fault_of(prompt):
            kind, words = fault
            message = f"subtask {self.stage}.{number} {words}; it is not dispatched"
            self._report(kind, message, value.start, number)
            return
        if isinstance(written, str):
            self._content(value)
        self._mark(value.root, value.end)
        after: tuple[int, ...] = ()
        if isinstance(written, dict) and len(written) > 1:  # there is more than the prompt
            after = self._after(pick(written, self._keys.after), value, number)
            if (name := pick(written, self._keys.name)) is not None:
                self._names.setdefault(_reference(name), number)
        subtask = PromptClosed(number, prompt, value.end, value.rest, after)
        self.prompts[number] = subtask
        self._subtasks.append(subtask)

    def _fault_of(self, prompt: str) -> tuple[DiagnosticKind, str] | None:
        """Return why a prompt says nothing about the task; None if it may."""
        if not prompt.strip():
            return "empty_prompt", "has no prompt"
        if is_placeholder(prompt):
            return "placeholder", f"has the placeholder {excerpt(prompt)} in place of a prompt"
        words = prompt.lower().split()
        if prompt in self._copies:
            return "copied_prompt", f"copies the example, {excerpt(prompt)}, and says nothing about the task"
        if len(words) >= _FEWEST_COPIED and " ".join(words) in self._told:
            return "copied_prompt", f"copies the instructions, {excerpt(prompt)}, and says nothing about the task"
        return None

    def _prompt_of(self, written: JsonValue) -> str:
        if isinstance(written, dict):
            found = pick(written, self._keys.prompt)
            if found is None and self._prompt is not None:  # the repair of a broken object has lost its prompt
                found = self._value(self._prompt)
            written = self._only_text(written) if found is None else found
        if written is None or isinstance(written, str):
            return written or ""
        return write(written)

    def _only_text(self, written: dict[str, JsonValue]) -> str | None:
        """Return the text of an object that has one, besides its name."""
        texts = [item for key, item in written.items() if isinstance(item, str) and normal(key) not in self._keys.name]
        return texts[0] if len(texts) == 1 else None

    def _after(self, names: JsonValue, value: Value, number: int) -> tuple[int, ...]:
        """Find the numbers of the subtasks to wait for."""
        numbers: list[int] = []
        for name in names if isinstance(names, list) else [] if names is None else [names]:
            reference = _reference(name)
            earlier = self._names.get(reference)
            if earlier is None and (match := _LAST_NUMBER.search(reference)):
                earlier = int(match[1])
            if earlier in self.prompts:
                numbers.append(earlier)
            else:
                message = f"subtask {self.stage}.{number} does not wait for {excerpt(reference)}: no earlier subtask"
                self._report("odd_dependency", message, value.start, number)
        return tuple(dict.fromkeys(numbers))

    def _end_root(self, value: Value) -> None:
        """Decide whether a whole value is a plan, an answer, or neither."""
        answer, self._answer = self._answer, None
        if answer is not None:
            scanned, answer = answer, whole_string(self._scanner, answer, end=value.end, keys=self._keys.thoughts)
            if answer != scanned:
                self._content(answer)
        self._mark(value.root, value.end)
        answers = answer is not None and self._value(answer) is not None
        if self._plans and (self.prompts or not answers):
            if answers:
                self._report("answer_in_plan", f"plan {self.stage} also answers; it is taken as a plan", value.start)
            self._plan_span = (value.start, value.end)
        elif answer is not None:
            self._answer_text = self._text_of(answer)
            self._answer_start, self._answer_end = value.start, value.end
            if is_placeholder(self._answer_text):
                self._report("placeholder", f"the answer is the placeholder {self._answer_text}", answer.start)
                self._answer_text = None
            elif self._value(answer) in self._copies:
                self._report("placeholder", "the answer is a copy of the example's", answer.start)
                self._answer_text = None
            elif not self._answer_text:
                self._report("empty_answer", "the answer is empty", answer.start)
        else:
            self._unkeyed = value
            return
        self._over = True
        if self._json(value) != self._scanner.slice(value.start, value.end):
            self._report("malformed_json", "this is not strict JSON; it was read as it is probably meant", value.start)

    def _text_of(self, answer: Value) -> str:
        """Return an answer in the form that the planner's type is read from."""
        value = self._value(answer)
        if self._typed:
            return self._json(answer)
        value = unwrap(value, (*self._keys.answer, *self._keys.result))
        return (value or "").strip() if value is None or isinstance(value, str) else write(value)

    def _cut_off(self, words: str) -> None:
        """Make the best of a completion in which neither a plan nor an answer ended."""
        scanner = self._scanner
        if scanner.begun is not None:
            self._cut_off_json(scanner.begun)
        elif self._form != "answer":
            return
        elif self._unkeyed is not None and pick(self._value(self._unkeyed), self._keys.subtasks) is not None:
            self._report("empty_answer", "this is a plan, and there is no answer", self._unkeyed.start)
        elif self._unkeyed is not None:
            self._answer_text = self._json(self._unkeyed)
            self._report("malformed_json", "the answer has no key; all of the JSON is taken", self._unkeyed.start)
        elif words:
            self._answer_text = words
            self._report("malformed_json", "the answer is not JSON; all of the text is taken", 0)
        else:
            self._report("empty_answer", "there is no answer", 0)

    def _cut_off_json(self, begun: int) -> None:
        scanner, cut = self._scanner, self._scanner.cut
        if self._plans or (self._form == "plan" and self._answer is None and not self._cut_in(self._answer_keys)):
            if self._cut_in(self._keys.result):
                return
            if any(isinstance(key, int) for key in scanner.path):
                message = f"subtask {self.stage}.{self._count + 1} is cut off; it is not dispatched"
                self._report("unclosed_prompt", message, begun, self._count + 1)
            self._plan_span = (begun, scanner.end)
            self._report("unclosed_plan", f"plan {self.stage} is cut off", scanner.end)
            return
        if self._answer is not None:
            self._answer_text = self._text_of(self._answer)
        elif cut is not None and not self._typed and self._cut_in(self._answer_keys):
            self._answer_text = read_string(scanner.slice(cut, scanner.end)).strip() or None
        elif self._typed:
            self._answer_text = scanner.slice(begun, scanner.end)  # half a value is invalid, and reported as such
        self._report("unclosed_answer", "the answer is cut off", scanner.end)

    def _cut_in(self, keys: Sequence[str]) -> bool:
        path = self._scanner.path
        return bool(path) and isinstance(path[0], str) and normal(path[0]) in keys

    def _report(self, kind: DiagnosticKind, message: str, position: int, number: int | None = None) -> None:
        self.diagnostics.append(
            Diagnostic(kind=kind, message=message, stage=self.stage, number=number, position=position)
        )


def _reference(name: JsonValue) -> str:
    """Write a subtask's name, which may be a number, as other subtasks refer to it."""
    if isinstance(name, float) and name.is_integer():
        name = int(name)
    return name.strip() if isinstance(name, str) else write(name)
