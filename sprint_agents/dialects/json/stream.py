"""Find JSON in what a model writes: behind thoughts, between words, in a fence, up to the mark that ends its turn.

Invariants are those of ``json_parser``. Braces in ``<think>…</think>`` are no JSON, nor are those that turn out to be
something else at their first key. What follows the end mark is nothing.
"""

import re
from collections.abc import Sequence

from .parser import JsonParser
from .values import Node, OpenScalar, Path

_THOUGHTS = ("<think>", "</think>")
_BEGINNING = re.compile(r"[{\[]|</?think>")
_FENCE = re.compile(r"```\w*")


class JsonStream:
    r"""Read a completion in chunks; each call returns the values that came to an end.

    ``marks`` end a model's turn. ``arrays`` says whether a value may begin with a bracket.

    >>> stream = JsonStream(("<|end|>",))
    >>> chunks = ["<think>{…}</think> Here: ```json\n{", '"answer": 4', "2}\n```<|e", "nd|>"]
    >>> [(node.path, node.value) for chunk in chunks for node in stream.feed(chunk)]
    [(('answer',), 42), ((), {'answer': 42})]
    >>> stream.close(), stream.ended, stream.words(), stream.thoughts
    ([], True, 'Here:', '{…}')
    """

    __slots__ = (
        "_arrays",
        "_held",
        "_marks",
        "_offset",
        "_outside",
        "_parser",
        "_pieces",
        "_thoughts",
        "_thoughts_from",
        "cut",
        "end",
        "ended",
    )

    def __init__(self, marks: Sequence[str] = (), *, arrays: bool = False) -> None:
        self._marks = tuple(filter(None, marks))
        self._arrays = arrays
        self._parser: JsonParser | None = None
        self._pieces: list[str] = []
        self._held = ""
        self._offset = 0
        self._outside: list[tuple[int, int]] = []
        self._thoughts_from: int | None = None
        self._thoughts: tuple[int, int] | None = None
        self.end = 0
        """Where the text ends, its mark excluded."""
        self.ended = False
        """Whether the mark was met."""
        self.cut: OpenScalar | None = None
        """After ``close``, the scalar in which the text was cut off."""

    @property
    def begun(self) -> int | None:
        """Where the value begins that is being read; None if none is, or it may still turn out to be none."""
        return self._parser.start if self._parser is not None and self._parser.certain else None

    @property
    def path(self) -> Path:
        """Where in the value that is being read reading has come to."""
        return self._parser.path if self._parser is not None else ()

    @property
    def text(self) -> str:
        """All that was fed."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return "".join(self._pieces)

    @property
    def thoughts(self) -> str | None:
        """What stands in ``<think>…</think>``."""
        if self._thoughts is None:
            return None
        start, end = self._thoughts
        return self.text[start:end]

    def words(self) -> str:
        """Return the text outside of values and thoughts, without fences."""
        text = self.text
        return _FENCE.sub("", "".join(text[start:stop] for start, stop in self._outside)).strip()

    def feed(self, text: str) -> list[Node]:
        """Read the next chunk."""
        self._pieces.append(text)
        if self.ended:
            return []
        buffer = self._held + text
        limit, self.ended = self._limit(buffer)
        nodes, at = self._read(buffer[:limit], final=self.ended)
        self._held = buffer[at:]
        return nodes + self._finish() if self.ended else nodes

    def close(self) -> list[Node]:
        """End the text; return the values that only its end decides."""
        if self.ended:
            return []
        nodes, _ = self._read(self._held, final=True)
        self._held = ""
        return nodes + self._finish()

    def _limit(self, buffer: str) -> tuple[int, bool]:
        """Find where the end mark begins, or may begin, and say whether it does."""
        found = [at for mark in self._marks if (at := buffer.find(mark)) >= 0]
        if found:
            return min(found), True
        return len(buffer) - max((_growing(buffer, mark) for mark in self._marks), default=0), False

    def _read(self, buffer: str, *, final: bool) -> tuple[list[Node], int]:
        """Read as far as can be told; return what was found, and how far that is."""
        nodes: list[Node] = []
        at = 0
        while at < len(buffer):
            parser = self._parser
            if parser is None:
                following = self._skip(buffer, at, final=final)
            else:
                following = parser.feed(buffer, at, base=self._offset, final=final)
                nodes += self._taken(parser, self._offset + following)
            if following == at and parser is self._parser:
                break
            at = following
        self._offset += at
        return nodes, at

    def _taken(self, parser: JsonParser, end: int) -> list[Node]:
        """Take what was found up to offset ``end``, and leave the parser if that is all."""
        if parser.failed or parser.end is not None:
            self._parser = None
            if not parser.certain:
                self._outside.append((parser.start, end))
        return parser.take()

    def _skip(self, buffer: str, at: int, *, final: bool) -> int:
        """Read what is no JSON; return where to go on, which is ``at`` if that depends on what follows."""
        found = _BEGINNING.search(buffer, at)
        while found and not self._heeds(found.group()):
            found = _BEGINNING.search(buffer, found.end())
        growing = 0 if found or final else max(_growing(buffer[at:], mark) for mark in _THOUGHTS)
        stop = found.start() if found else len(buffer) - growing
        start = self._offset + stop
        if self._thoughts_from is None and stop > at:
            self._outside.append((self._offset + at, start))
        if found is None:
            return stop
        if found.group() == "<think>":
            self._thoughts_from = found.end() + self._offset
        elif found.group() == "</think>":
            self._end_thoughts(start)
        else:
            self._parser = JsonParser(start)
            return stop
        return found.end()

    def _heeds(self, mark: str) -> bool:
        if self._thoughts_from is not None:
            return mark == "</think>"
        return mark != "[" or self._arrays

    def _end_thoughts(self, end: int) -> None:
        """Take what stands before offset ``end`` as thoughts; chat templates may have opened them, out of sight."""
        if self._thoughts_from is None:
            self._outside.clear()
        self._thoughts = (self._thoughts_from or 0, end)
        self._thoughts_from = None

    def _finish(self) -> list[Node]:
        self.end = self._offset
        if self._thoughts_from is not None:
            self._end_thoughts(self.end)
        if (parser := self._parser) is None:
            return []
        self.cut = parser.finish(self.end, ended=self.ended)
        return self._taken(parser, self.end)


def _growing(text: str, mark: str) -> int:
    """How many characters at the end of ``text`` may become ``mark``."""
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0)
