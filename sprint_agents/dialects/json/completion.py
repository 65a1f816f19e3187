"""Find JSON in a completion: after thoughts, between words, in a code fence, up to the mark that ends the turn.

The invariants are those of ``scanner``. Braces in ``<think>…</think>`` are not JSON, nor are those whose first key
shows that they are something else. Text after the end mark is ignored.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from pydantic import JsonValue

from .scanner import CutScalar, ObjectScanner, Path, Value
from .values import read_value

_THOUGHTS = ("<think>", "</think>")
_BEGINNING = re.compile(r"[{\[]|</?think>")
_FENCE = re.compile(r"```\w*")


class JsonCompletion:
    r"""Scan a completion in chunks; each call returns the values that it completed.

    Args:
        marks: texts that end the model's turn.
        arrays: a value may begin with a bracket.

    >>> completion = JsonCompletion(("<|end|>",))
    >>> chunks = ["<think>{…}</think> Here: ```json\n{", '"answer": 4', "2}\n```<|e", "nd|>"]
    >>> [(value.path, completion.read(value)) for chunk in chunks for value in completion.feed(chunk)]
    [(('answer',), 42), ((), {'answer': 42})]
    >>> completion.close(), completion.ended, completion.words(), completion.thoughts
    ([], True, 'Here:', '{…}')
    """

    __slots__ = (
        "_arrays",
        "_chunks",
        "_ends",
        "_held",
        "_marks",
        "_offset",
        "_outside",
        "_scanner",
        "_thoughts",
        "_thoughts_start",
        "cut",
        "end",
        "ended",
        "length",
    )

    def __init__(self, marks: Sequence[str] = (), *, arrays: bool = False) -> None:
        self._marks = tuple(filter(None, marks))
        self._arrays = arrays
        self._scanner: ObjectScanner | None = None
        self._chunks: list[str] = []
        self._ends: list[int] = []
        self._held = ""
        self._offset = 0
        self._outside: list[tuple[int, int]] = []
        self._thoughts_start: int | None = None
        self._thoughts: tuple[int, int] | None = None
        self.length = 0
        """The characters fed so far."""
        self.end = 0
        """The offset after the text, without its end mark."""
        self.ended = False
        """The end mark was found."""
        self.cut: CutScalar | None = None
        """After ``close``, the scalar that the end of the text cut off."""

    @property
    def begun(self) -> int | None:
        """The offset of the value that is being scanned; None if there is none, or it may still turn out to be text."""
        return self._scanner.start if self._scanner is not None and self._scanner.certain else None

    @property
    def path(self) -> Path:
        """The path of the next value."""
        return self._scanner.path if self._scanner is not None else ()

    @property
    def thoughts(self) -> str | None:
        """The text in ``<think>…</think>``."""
        return None if self._thoughts is None else self.slice(*self._thoughts)

    def slice(self, start: int, end: int) -> str:
        """Return the characters from ``start`` to ``end``, touching only the chunks that hold them."""
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, end)
        if first == len(self._ends):
            return ""
        base = self._ends[first - 1] if first else 0
        return "".join(self._chunks[first : last + 1])[start - base : end - base]

    def read(self, value: Value) -> JsonValue:
        """Read a value."""
        return read_value(self.slice(value.start, value.end) + value.rest)[0]

    def read_json(self, value: Value) -> str:
        """Return a value as strict JSON, exactly as it was written if that is strict JSON already."""
        return read_value(self.slice(value.start, value.end) + value.rest)[1]

    def content(self, value: Value) -> tuple[int, int]:
        """Return where a value's content starts and ends, without the quotes of a string."""
        quoted = self.slice(value.start, value.start + 1) in ('"', "'")
        return value.start + quoted, value.end - (quoted and not value.rest)

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
        limit, self.ended = self._limit(buffer)
        values, at = self._scan(buffer[:limit], final=self.ended)
        self._held = buffer[at:]
        return values + self._finish() if self.ended else values

    def close(self) -> list[Value]:
        """End the text; return the values that only its end completes."""
        if self.ended:
            return []
        values, _ = self._scan(self._held, final=True)
        self._held = ""
        return values + self._finish()

    def _limit(self, buffer: str) -> tuple[int, bool]:
        """Find where the end mark begins, or may begin, and say whether it does."""
        found = [at for mark in self._marks if (at := buffer.find(mark)) >= 0]
        if found:
            return min(found), True
        return len(buffer) - max((_growing(buffer, mark) for mark in self._marks), default=0), False

    def _scan(self, buffer: str, *, final: bool) -> tuple[list[Value], int]:
        """Scan as far as possible; return the completed values, and the position where the scan stopped."""
        values: list[Value] = []
        at = 0
        while at < len(buffer):
            scanner = self._scanner
            if scanner is None:
                following = self._skip(buffer, at, final=final)
            else:
                following = scanner.feed(buffer, at, base=self._offset, final=final)
                values += self._taken(scanner, self._offset + following)
            if following == at and scanner is self._scanner:
                break
            at = following
        self._offset += at
        return values, at

    def _taken(self, scanner: ObjectScanner, end: int) -> list[Value]:
        """Take the values up to offset ``end``, and leave the scanner if it is done."""
        if scanner.failed or scanner.end is not None:
            self._scanner = None
            if not scanner.certain:
                self._outside.append((scanner.start, end))
        return scanner.take()

    def _skip(self, buffer: str, at: int, *, final: bool) -> int:
        """Skip text; return the position after it, which is ``at`` if the next characters may become a beginning."""
        found = _BEGINNING.search(buffer, at)
        while found and not self._heeds(found.group()):
            found = _BEGINNING.search(buffer, found.end())
        growing = 0 if found or final else max(_growing(buffer[at:], mark) for mark in _THOUGHTS)
        stop = found.start() if found else len(buffer) - growing
        start = self._offset + stop
        if self._thoughts_start is None and stop > at:
            self._outside.append((self._offset + at, start))
        if found is None:
            return stop
        if found.group() == "<think>":
            self._thoughts_start = found.end() + self._offset
        elif found.group() == "</think>":
            self._end_thoughts(start)
        else:
            self._scanner = ObjectScanner(start)
            return stop
        return found.end()

    def _heeds(self, mark: str) -> bool:
        if self._thoughts_start is not None:
            return mark == "</think>"
        return mark != "[" or self._arrays

    def _end_thoughts(self, end: int) -> None:
        """Take the text before offset ``end`` as thoughts; a chat template may have written their opening tag."""
        if self._thoughts_start is None:
            self._outside.clear()
        self._thoughts = (self._thoughts_start or 0, end)
        self._thoughts_start = None

    def _finish(self) -> list[Value]:
        self.end = self._offset
        if self._thoughts_start is not None:
            self._end_thoughts(self.end)
        if (scanner := self._scanner) is None:
            return []
        self.cut = scanner.finish(self.end, closed=self.ended)
        return self._taken(scanner, self.end)


def _growing(text: str, mark: str) -> int:
    """Return how many characters at the end of ``text`` may become ``mark``."""
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0)
