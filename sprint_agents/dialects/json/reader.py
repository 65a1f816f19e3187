"""Read one completion of a planner, written in JSON, as it streams in: subtasks as they close, then the plan or answer.

Invariants:

- Nothing that a model writes makes the reader raise; whatever is odd is a diagnostic beside the best reading of it.
- The items do not depend on how the text was cut into chunks. ``PromptClosed`` comes out with the chunk that holds the
  last character of a subtask, which is when its ``after`` is known.
- A chunk costs time in its own length only.

How odd texts are read: a subtask's number is its place in the plan, of which an empty one is not dispatched; ``after``
names earlier subtasks, anything else in it is ignored; a plan that also answers is a plan, for its subtasks have begun;
what follows the plan or the answer is ignored. What the token limit cuts off is not dispatched.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from sprint_agents.dialects.answers import answer_value
from sprint_agents.dialects.base import Form
from sprint_agents.dialects.completions import PromptClosed
from sprint_agents.dialects.diagnostics import Diagnostic, DiagnosticKind
from sprint_agents.dialects.tags.marks import without_marks
from sprint_agents.dialects.tags.reader import excerpt

from .stream import JsonStream
from .values import Node, write
from .words import JsonKeys, normal, pick

_LAST_NUMBER = re.compile(r"([0-9]{1,9})\W*$")


@dataclass(frozen=True, slots=True)
class Markup:
    """A part of a completion that is no content: keys, brackets, quotes, the end mark."""

    start: int
    end: int


class JsonReader:
    r"""Read one stage: what the planner writes from the opening of its turn to its end.

    ``marks`` end its turn, ``typed`` says that its answer is anything but a text. Offsets are characters of all text
    that was fed.

    >>> from sprint_agents.dialects.json.words import load_words
    >>> reader = JsonReader(load_words().keys, stage=1)
    >>> reader.feed('{"subtasks": [{"prompt": "Add 1 and 2."}, {"prompt": "Double it.", "after": [1]')
    [PromptClosed(number=1, prompt='Add 1 and 2.', end=40, rest='', after=())]
    >>> reader.feed('}]}')
    [PromptClosed(number=2, prompt='Double it.', end=80, rest='', after=(1,))]
    """

    def __init__(
        self, keys: JsonKeys, *, stage: int, form: Form = "plan", marks: Iterable[str] = (), typed: bool = False
    ) -> None:
        self._keys = keys
        # A planner that is to answer and gives a result means the same; one that may plan as well may be an executor.
        self._answers = keys.answer if form == "plan" else (*keys.answer, *keys.result)
        self._form = form
        self._typed = typed
        self._stream = JsonStream(tuple(marks), arrays=form == "plan")
        self._items: list[PromptClosed] = []
        self._count = 0
        self._names: dict[str, int] = {}
        self._plans = False
        self._answer: Node | None = None
        self._answered_from: int | None = None
        self._stray: Node | None = None
        self._over = False
        self._marked = 0
        self._plan_span: tuple[int, int] | None = None
        self._closed = False
        self.stage = stage
        self.prompts: dict[int, PromptClosed] = {}
        """What was dispatched, by number, in the order of the plan."""
        self.chain: str | None = None
        """The thoughts before the plan or the answer; of a chain, all before the answer."""
        self._text: str | None = None
        self.diagnostics: list[Diagnostic] = []
        self.spans: list[Markup] = []
        """All that is no content, in order."""

    @property
    def plan(self) -> str | None:
        """The JSON of the plan so far; None before it begins."""
        if self._plan_span is not None:
            start, end = self._plan_span
            return self._stream.text[start:end]
        begun = self._stream.begun
        return self._stream.text[begun:] if begun is not None and self._plans else None

    @property
    def answer(self) -> str | None:
        """The final answer: JSON where it is ``typed``, otherwise a text; see ``answer_value``."""
        return self._text if self._typed or self._text is None else answer_value(self._text)

    def feed(self, text: str) -> list[PromptClosed]:
        """Read the next chunk; return what it brought to an end, in the order of the text."""
        return self._read(self._stream.feed(text))

    def close(self) -> list[PromptClosed]:
        """End the completion; return what only its end decides. Closing again returns nothing."""
        if self._closed:
            return []
        self._closed = True
        items = self._read(self._stream.close())
        words = without_marks(self._stream.words())
        if not self._over:
            self._cut_off(words)
        if words and self._form == "plan":
            self._report("text_outside", f"{len(words)} characters outside of JSON are ignored: {excerpt(words)}", 0)
        self.chain = self._stream.thoughts
        if self._form == "chain":
            self.chain = self._stream.text[: self._stream.end if self._answered_from is None else self._answered_from]
        if self._stream.ended:
            self.spans.append(Markup(self._stream.end, len(self._stream.text)))
        return items + self._take()

    def _read(self, nodes: Iterable[Node]) -> list[PromptClosed]:
        for node in nodes:
            # The last answer of a chain is the answer.
            if not self._over or self._form == "chain":
                self._meet(node)
        return self._take()

    def _take(self) -> list[PromptClosed]:
        items, self._items = self._items, []
        return items

    def _meet(self, node: Node) -> None:
        """Take a value by where it stands."""
        keys = self._keys
        match node.path:
            case ():
                self._end_root(node)
            case (str(key),) if normal(key) in keys.thoughts and isinstance(node.value, str):
                self._content(node)
            case (str(key),) if normal(key) in self._answers and node.value is not None:
                self._answer = node
                self._content(node)
            case (str(key),) if normal(key) in self._answers:
                self._answer = self._answer or node
            case (*outer, int()) if self._form == "plan" and self._is_plan(outer):
                self._subtask(node)
            case (*outer, int(), str(key)) if normal(key) in keys.prompt and self._is_plan(outer):
                self._content(node)
            case (*outer, str(key)) if self._form == "plan" and self._is_plan([*outer, key]):
                self._plans = self._plans or isinstance(node.value, list)
            case _:
                pass

    def _is_plan(self, path: Iterable[str | int]) -> bool:
        """Whether what stands in an array at ``path`` is subtasks; an array at the root can hold nothing else."""
        return all(isinstance(key, str) and normal(key) in self._keys.subtasks for key in path)

    def _content(self, node: Node) -> None:
        start, end = node.content
        self._mark(node.root, start)
        self._marked = max(self._marked, end)

    def _mark(self, root: int, end: int) -> None:
        """Note that what is no content, of the value that begins at ``root`` and up to offset ``end``, is markup."""
        start = max(self._marked, root)
        if end > start:
            self.spans.append(Markup(start, end))
            self._marked = end

    def _subtask(self, node: Node) -> None:
        """Dispatch a subtask, unless it asks nothing."""
        self._plans = True
        self._count += 1
        number = self._count
        prompt = self._prompt(node.value)
        if not prompt.strip():
            message = f"subtask {self.stage}.{number} has no prompt; it is not dispatched"
            self._report("empty_prompt", message, node.start, number)
            return
        if isinstance(node.value, str):
            self._content(node)
        self._mark(node.root, node.end)
        after = self._after(pick(node.value, self._keys.after), node, number)
        if (name := pick(node.value, self._keys.name)) is not None:
            self._names.setdefault(_spoken(name), number)
        item = PromptClosed(number, prompt, node.end, node.rest, after)
        self.prompts[number] = item
        self._items.append(item)

    def _prompt(self, value: JsonValue) -> str:
        if isinstance(value, dict):
            texts = [
                item for key, item in value.items() if isinstance(item, str) and normal(key) not in self._keys.name
            ]
            alone = texts[0] if len(texts) == 1 else None
            found = pick(value, self._keys.prompt)
            value = alone if found is None else found
        if value is None or isinstance(value, str):
            return value or ""
        return write(value)

    def _after(self, value: JsonValue, node: Node, number: int) -> tuple[int, ...]:
        """Find the numbers of the subtasks that are to be waited for."""
        numbers: list[int] = []
        for name in value if isinstance(value, list) else [] if value is None else [value]:
            earlier = self._names.get(_spoken(name))
            if earlier is None and (match := _LAST_NUMBER.search(_spoken(name))):
                earlier = int(match[1])
            if earlier in self.prompts:
                numbers.append(earlier)
            else:
                message = (
                    f"subtask {self.stage}.{number} does not wait for {excerpt(_spoken(name))}: no earlier subtask"
                )
                self._report("odd_dependency", message, node.start, number)
        return tuple(dict.fromkeys(numbers))

    def _end_root(self, node: Node) -> None:
        """Decide what a value as a whole is: a plan, an answer, or nothing that was asked for."""
        self._mark(node.root, node.end)
        answer, self._answer = self._answer, None
        answers = answer is not None and answer.value is not None
        if self._plans and (self.prompts or not answers):
            if answers:
                self._report("answer_in_plan", f"plan {self.stage} also answers; it is taken as a plan", node.start)
            self._plan_span = (node.start, node.end)
        elif answer is not None:
            self._text = self._said(answer)
            self._answered_from = node.start
            if not self._text:
                self._report("empty_answer", "the answer is empty", answer.start)
        else:
            self._stray = node
            return
        self._over = True
        if not node.exact:
            self._report("malformed_json", "this is not quite JSON, and was read as it is meant", node.start)

    def _said(self, node: Node) -> str:
        """Return an answer as the planner's type reads it."""
        if self._typed:
            return node.json(self._stream.text)
        if isinstance(node.value, str):
            return node.value.strip()
        return "" if node.value is None else node.json(self._stream.text)

    def _cut_off(self, words: str) -> None:
        """Make the best of a completion that brought neither a plan nor an answer to its end."""
        stream = self._stream
        if stream.begun is not None:
            self._cut_off_json(stream.begun)
        elif self._form != "answer":
            return
        elif self._stray is not None:
            self._text = self._stray.json(stream.text)
            self._report("malformed_json", "the answer has no key, and is taken as it stands", self._stray.start)
        elif words:
            self._text = words
            self._report("malformed_json", "the answer is no JSON, and is taken as it stands", 0)
        else:
            self._report("empty_answer", "there is no answer", 0)

    def _cut_off_json(self, begun: int) -> None:
        stream, cut = self._stream, self._stream.cut
        if self._plans or (self._form == "plan" and self._answer is None and not self._cut_in(self._answers)):
            if self._cut_in(self._keys.result):
                return
            if any(isinstance(key, int) for key in stream.path):
                message = f"subtask {self.stage}.{self._count + 1} is cut off; it is not dispatched"
                self._report("unclosed_prompt", message, begun, self._count + 1)
            self._plan_span = (begun, stream.end)
            self._report("unclosed_plan", f"plan {self.stage} is cut off", stream.end)
            return
        if self._answer is not None:
            self._text = self._said(self._answer)
        elif cut is not None and cut.is_string and not self._typed and self._cut_in(self._answers):
            self._text = cut.text.strip() or None
        elif self._typed:
            self._text = stream.text[begun : stream.end]  # half a value is none: let it be found invalid
        self._report("unclosed_answer", "the answer is cut off", stream.end)

    def _cut_in(self, keys: Sequence[str]) -> bool:
        path = self._stream.path
        return bool(path) and isinstance(path[0], str) and normal(path[0]) in keys

    def _report(self, kind: DiagnosticKind, message: str, position: int, number: int | None = None) -> None:
        diagnostic = Diagnostic(kind=kind, message=message, stage=self.stage, number=number, position=position)
        self.diagnostics.append(diagnostic)


def _spoken(name: JsonValue) -> str:
    """Write a subtask's name, which may be a number, as others refer to it."""
    if isinstance(name, float) and name.is_integer():
        name = int(name)
    return name.strip() if isinstance(name, str) else write(name)
