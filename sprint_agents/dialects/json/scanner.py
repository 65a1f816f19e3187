r"""Find where JSON values begin and end in a completion, while it streams in and without reading them.

Invariants:

- The scanner never raises, and what it finds does not depend on how the text was cut into chunks.
- A value comes out with the chunk that holds its last character, or a string with what shows that it has ended. A chunk
  costs time in proportion to its own length: it holds back fewer characters for the next one than the longest mark has,
  or than the key that may follow a quote.
- ``slice(value.start, value.end)`` is exactly the text of the value.

JSON is found after thoughts, between words, and in a code fence. Braces in ``<think>…</think>`` are not JSON, nor are
those whose first key shows that they are something else. The text ends at the mark that ends the model's turn.

Accepted besides JSON: comments; words and keys without quotes, or in single or typographic ones; missing and surplus
commas; closing brackets of outer values where inner ones are still open.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Literal

from sprint_agents.engine import THOUGHTS

from .container import NAME, Container, Kind, Path, Value, after_blanks, growing, promises
from .quotes_within import is_within

DEPTH = 64
"""The deepest nesting that is scanned, so that no later step meets a recursion limit."""

QUOTES = {'"': '"', "'": "'", "“": "”"}
"""The quotes that begin a string, and that end it."""

_BEGINNING = re.compile(r"[{\[]|</?think>")
_FENCE = re.compile(r"```\w*")
_STRING_RUN = {
    '"': re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL),
    "'": re.compile(r"[^'\\]*(?:\\.[^'\\]*)*", re.DOTALL),
    "”": re.compile(r"[^”\\]*(?:\\.[^”\\]*)*", re.DOTALL),
}
_KEY_RUN = re.compile(r"""[^\s,:\[\]{}"']+""")
_WORD_RUN = re.compile(r'[^,\]{}\n"]+')
_ONE_STRING = re.compile(r'(?:\s*,\s*)?(\{\s*"([^"\\]*)"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*\})', re.DOTALL)
_COMMENT_AFTER = re.compile(r"\s(?://|/\*|#).*", re.DOTALL)


class JsonScanner:
    r"""Scan a completion in chunks; each call returns the values that it completed, inner ones first.

    Args:
        marks: texts that end the model's turn.
        arrays: a value may begin with a bracket.
        certain: the text is one value and nothing else.
        thinking: the text begins within thoughts.
        told: the levels of nesting whose values come out.

    Attributes:
        length: the characters that were fed.
        end: the offset after the text, without its end mark.
        ended: the end mark was found.
        cut: after ``close``, where the content of a string begins that the end of the text cut off.
        torn: two values touch, or a key has no value, as where a string contains quotes that are not escaped.
        thoughts: the text in ``<think>…</think>``.
        thoughts_end: the offset after it; values before it were thoughts, if the opening mark is not in the text.

    >>> scanner = JsonScanner(("<|end|>",))
    >>> chunks = ["<think>{…}</think> Here: ```json\n{", "'answer': [4", "2,]}\n```<|e", "nd|>"]
    >>> values = [value for chunk in chunks for value in scanner.feed(chunk)]
    >>> [(value.path, scanner.slice(value.start, value.end)) for value in values]
    [(('answer', 0), '42'), (('answer',), '[42,]'), ((), "{'answer': [42,]}")]
    >>> scanner.close(), scanner.ended, scanner.words(), scanner.thoughts
    ([], True, 'Here:', '{…}')
    """

    def __init__(
        self,
        marks: Sequence[str] = (),
        *,
        arrays: bool = False,
        certain: bool = False,
        thinking: bool = False,
        told: int = 4,
    ) -> None:
        self._marks = tuple(filter(None, marks))
        self._beginnings = ("{", "[") if arrays or certain else ("{",)
        self._told = told
        self._chunks: list[str] = []
        self._ends: list[int] = []
        self._held = ""
        self._offset = 0
        self._mode: Literal["outside", "between", "string", "word", "line", "block"] = "outside"
        self._outside: list[tuple[int, int]] = []
        self._thoughts_start: int | None = 0 if thinking else None
        self._frames: list[Container] = []
        # A brace is certain to begin JSON, rather than to stand in a text, after the first colon.
        self._certain = self._always_certain = certain
        self._quote = '"'
        self._scalar = 0
        self._parts: list[str] = []
        self._values: list[Value] = []
        self.length = self.end = 0
        self.ended = self.torn = False
        self.cut: int | None = None
        self.thoughts: str | None = None
        self.thoughts_end = 0

    @property
    def begun(self) -> int | None:
        """The offset of the value that is being scanned; None if there is none, or it may still turn out to be text."""
        return self._frames[0].start if self._frames and self._certain else None

    @property
    def path(self) -> Path:
        """The path of the next value."""
        return tuple([frame.position for frame in self._frames])

    def slice(self, start: int, end: int) -> str:
        """Return the characters from ``start`` to ``end``, touching only the chunks that hold them."""
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, end)
        base = self._ends[first - 1] if first else 0
        return "".join(self._chunks[first : last + 1])[start - base : end - base]

    def words(self) -> str:
        """Return the text outside of values and thoughts, without code fences."""
        return _FENCE.sub("", "".join([self.slice(start, stop) for start, stop in self._outside])).strip()

    def feed(self, text: str) -> list[Value]:
        """Scan the next chunk."""
        if text:
            self._chunks.append(text)
            self.length += len(text)
            self._ends.append(self.length)
        if self.ended:
            return []
        buffer = self._held + text
        found = [at for mark in self._marks if (at := buffer.find(mark)) >= 0]
        limit = min(found) if found else len(buffer) - max([growing(buffer, mark) for mark in self._marks], default=0)
        self.ended = bool(found)
        self._held = buffer[self._scan(buffer[:limit], final=self.ended) :]
        if self.ended:
            self._finish(closed=True)
        return self._taken()

    def close(self, *, closed: bool = False) -> list[Value]:
        """End the text; return the values that only its end completes. If it is ``closed``, all open values end."""
        if not self.ended:
            self._scan(self._held, final=True)
            self._held = ""
            self._finish(closed=closed)
        return self._taken()

    def _taken(self) -> list[Value]:
        values, self._values = self._values, []
        return values

    def _scan(self, buffer: str, *, final: bool) -> int:
        """Scan as far as possible, and return the position reached; ``final`` says that no more text follows."""
        at: int | None = 0
        position = 0
        while at is not None and at < len(buffer):
            match self._mode:
                case "outside":
                    at = self._skip(buffer, at, final)
                case "between":
                    at = self._between(buffer, at, final)
                case "string":
                    at = self._string(buffer, at, final)
                case "word":
                    at = self._word(buffer, at)
                case "line" | "block":
                    at = self._comment(buffer, at, final)
            position = position if at is None else at
        self._offset += position
        return position

    # Each of these returns the position after what it has scanned, or None if that depends on the next characters.

    def _skip(self, buffer: str, at: int, final: bool) -> int | None:
        found = _BEGINNING.search(buffer, at)
        while found and not self._heeds(found.group()):
            found = _BEGINNING.search(buffer, found.end())
        held = 0 if found or final else max(growing(buffer[at:], mark) for mark in THOUGHTS)
        stop = found.start() if found else len(buffer) - held
        if self._thoughts_start is None and stop > at:
            self._outside.append((self._offset + at, self._offset + stop))
        if found is None:
            return stop if stop > at else None
        if found.group() == "<think>":
            self._thoughts_start = self._offset + found.end()
        elif found.group() == "</think>":
            self._end_thoughts(self._offset + stop)
        else:
            self._mode, self._certain = "between", self._always_certain
            return self._open(buffer, stop)
        return found.end()

    def _heeds(self, mark: str) -> bool:
        if self._thoughts_start is not None:
            return mark == "</think>"
        return mark in self._beginnings or mark in THOUGHTS

    def _end_thoughts(self, end: int) -> None:
        """Take the text before offset ``end`` as thoughts; a chat template may have written their opening tag."""
        if self._thoughts_start is None:
            self._outside.clear()
        self.thoughts = self.slice(self._thoughts_start or 0, end)
        self._thoughts_start = None
        self.thoughts_end = end

    def _between(self, buffer: str, at: int, final: bool) -> int | None:
        character = buffer[at]
        if character.isspace():
            return after_blanks(buffer, at)
        frame = self._frames[-1]
        if not self._certain and not promises(frame, character):
            return self._give_up(at)
        match character:
            case "{" | "[":
                return self._open(buffer, at)
            case "}" | "]":
                self._shut(character, self._offset + at + 1)
            case ",":
                frame.separated = True
                self.torn = self.torn or frame.expects == "colon"
                if frame.closer == "}":
                    frame.expects = "key"
                return after_blanks(buffer, at + 1)
            case ":":
                if frame.expects == "colon":
                    frame.expects, self._certain = "value", True
                return after_blanks(buffer, at + 1)
            case '"' | "'" | "“":
                self._begin("string", at)
                self._quote = QUOTES[character]
            case "#":
                self._mode = "line"
            case "/" if at + 1 == len(buffer) and not final:
                return None
            case "/" if buffer[at + 1 : at + 2] in ("/", "*"):
                self._mode = "line" if buffer[at + 1] == "/" else "block"
                return at + 2
            case _:
                self._begin("word", at)
                return at
        return at + 1

    def _give_up(self, at: int) -> int:
        """Take the open value as text."""
        if not self._certain:
            self._outside.append((self._frames[0].start, self._offset + at))
        self._frames.clear()
        self._mode = "outside"
        return at

    def _open(self, buffer: str, at: int) -> int:
        if len(self._frames) == DEPTH:
            return self._give_up(at)
        inside = self._certain and self._frames and self._frames[-1].closer == "]"
        if inside and (found := _ONE_STRING.match(buffer, at)):
            return self._take_objects(buffer, found)
        if self._frames and self._frames[-1].expects != "value":
            if self._frames[-1].expects == "key":
                self._frames[-1].key = ""
            else:
                self.torn = True
            self._frames[-1].expects = "value"
        start = self._offset + at
        self._frames.append(Container("}", start, "key") if buffer[at] == "{" else Container("]", start, "value"))
        return at + 1

    def _shut(self, character: str, end: int) -> None:
        if any(frame.closer == character for frame in self._frames):
            while self._frames[-1].closer != character:
                self._end_container(end - 1)
            self._end_container(end)

    def _take_objects(self, buffer: str, found: re.Match[str] | None) -> int:
        """Take items that are objects of one string as a whole: most plans are lists of such objects."""
        array, outer, root, offset, end = self._frames[-1], self.path[:-1], self._frames[0].start, self._offset, 0
        while found is not None:
            path, (start, end) = (*outer, array.count), found.span(1)
            if len(path) < self._told:
                inner, (first, last) = (*path, found[2]), found.span(3)
                self._values.append(Value(inner, "string", root, offset + first, offset + last))
            if len(path) <= self._told:
                self._values.append(Value(path, "object", root, offset + start, offset + end))
            array.count += 1
            found = _ONE_STRING.match(buffer, end)
        array.separated = False
        return end

    def _comment(self, buffer: str, at: int, final: bool) -> int | None:
        mark = "\n" if self._mode == "line" else "*/"
        found = buffer.find(mark, at)
        if found >= 0:
            self._mode = "between"
            return found + len(mark)
        stop = len(buffer) - (mark == "*/" and buffer.endswith("*") and not final)
        return stop if stop > at else None

    def _begin(self, mode: Literal["string", "word"], at: int) -> None:
        self._mode = mode
        self._parts = []
        self._scalar = self._offset + at

    def _string(self, buffer: str, at: int, final: bool) -> int | None:
        run = _STRING_RUN[self._quote].match(buffer, at)
        if run is not None and run.end() > at:
            self._parts.append(run.group())
            at = run.end()
            if self._quote == "'" or at == len(buffer) or buffer[at] == "\\":
                return at
        if buffer[at] == "\\":  # the last character of the buffer: it escapes the next one
            return at + 1 if final else None
        within = is_within(buffer, at, self._quote, self._frames, final=final)
        if within is None:
            return None
        if within:
            self._parts.append(self._quote)
            return at + 1
        self._end_scalar("string", self._offset + at + 1)
        return at + 1

    def _word(self, buffer: str, at: int) -> int:
        run = (_WORD_RUN if self._frames[-1].expects == "value" else _KEY_RUN).match(buffer, at)
        if run is not None:
            self._parts.append(run.group())
            return run.end()
        if not self._certain and not NAME.fullmatch("".join(self._parts)):
            return self._give_up(at)
        self._end_scalar("word", self._offset + at)
        return at

    def _end_scalar(self, kind: Literal["string", "word"], end: int, rest: str = "") -> None:
        text = "".join(self._parts)
        if kind == "word":
            text = _COMMENT_AFTER.sub("", text).rstrip()
            end = self._scalar + len(text)
        self._mode = "between"
        self._add(kind, self._scalar, end, rest, text=text)

    def _end_container(self, end: int, rest: str = "") -> None:
        frame = self._frames.pop()
        self.torn = self.torn or frame.expects == "colon"
        self._add("object" if frame.closer == "}" else "array", frame.start, end, rest)

    def _add(self, kind: Kind, start: int, end: int, rest: str = "", *, text: str | None = None) -> None:
        """Put a value in its place, or take the ``text`` of a scalar as the next key."""
        if not self._frames:
            self._values.append(Value((), kind, start, start, end, rest))
            self._mode = "outside"
            return
        frame = self._frames[-1]
        if frame.expects != "value":
            assert text is not None  # a container is never opened here
            self.torn = self.torn or frame.expects == "colon"
            frame.key, frame.expects = text, "colon"
            return
        if len(self._frames) <= self._told:
            self._values.append(Value(self.path, kind, self._frames[0].start, start, end, rest))
        if frame.closer == "}":
            frame.expects = "key"
        else:
            self.torn = self.torn or (text is not None and not frame.separated)
            frame.count += 1
        frame.separated = False

    def _finish(self, *, closed: bool) -> None:
        """End the text; a model that ended its turn itself ``closed`` all that is open, the token limit did not."""
        self.end = self._offset
        if self._thoughts_start is not None:
            self._end_thoughts(self.end)
        if not self._frames:
            return
        if not self._certain:
            self._give_up(0)
        elif not closed:
            self.cut = self._scalar + 1 if self._mode == "string" else None
        else:
            rest = self._quote if self._mode == "string" else ""
            if self._mode in ("string", "word"):
                self._end_scalar(self._mode, self.end, rest)
            while self._frames:
                rest += self._frames[-1].closer
                self._end_container(self.end, rest)
