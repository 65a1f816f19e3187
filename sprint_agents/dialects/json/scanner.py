r"""Find where the values of one JSON object or array begin and end in a stream, without reading them.

Invariants:

- The scanner never raises, and its values do not depend on how the text was cut into chunks.
- A value comes out with the chunk that holds its last character. A chunk costs its own length: fewer than ten
  characters are held back for the next one.
- ``text[start:end]`` is the value as it was written.

Accepted besides JSON: comments; words and keys without quotes, or in single quotes; missing and surplus commas; closing
brackets of outer values where inner ones are still open.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

DEPTH = 64
"""The deepest nesting that is scanned, so that no later step meets a recursion limit."""

_STALLED = -1
_BLANK = re.compile(r"\s*")
_STRING_RUN = {
    '"': re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL),
    "'": re.compile(r"[^'\\]*(?:\\.[^'\\]*)*", re.DOTALL),
}
# An apostrophe ends a string only where something could follow the string: {'a': 'don't'} has one string, "don't".
_CLOSING_APOSTROPHE = re.compile(r"'[ \t]{0,8}(?:[,:}\]\r\n]|$)")
_UNSURE_APOSTROPHE = re.compile(r"'[ \t]{0,8}")
_KEY_RUN = re.compile(r"""[^\s,:\[\]{}"']+""")
_WORD_RUN = re.compile(r'[^,\]{}\n"]+')
_COMMENT_AFTER = re.compile(r"\s(?://|/\*|#).*", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_$][\w$-]*")

Path = tuple[str | int, ...]
"""The keys and positions that lead from the root to a value."""


class Value(NamedTuple):
    """A complete value; ``path`` is ``()`` for the root, which begins at offset ``root``.

    Offsets count the characters of the whole text. ``rest`` closes the value where the end of the text cut it off.
    """

    path: Path
    root: int
    start: int
    end: int
    rest: str = ""


class CutScalar(NamedTuple):
    """A string or word that the end of the text cut off; its content begins at ``start``, after any quote."""

    start: int
    is_string: bool


@dataclass(slots=True)
class _Frame:
    """An open object or array, and what it expects next; an array always expects a value."""

    closer: Literal["}", "]"]
    start: int
    expects: Literal["key", "colon", "value"]
    key: str = ""
    count: int = 0
    separated: bool = True

    @property
    def position(self) -> str | int:
        """The key or position of the next value."""
        return self.key if self.closer == "}" else self.count


class ObjectScanner:
    r"""Scan the value that begins at ``start`` with ``{`` or ``[``; values down to ``told`` levels come out.

    >>> scanner = ObjectScanner(0)
    >>> text = "{\"after\": [1,], 'prompt': 'a'} and more"
    >>> text[scanner.feed(text, 0, base=0) :]
    ' and more'
    >>> [(value.path, text[value.start : value.end]) for value in scanner.take()]  # doctest: +NORMALIZE_WHITESPACE
    [(('after', 0), '1'), (('after',), '[1,]'), (('prompt',), "'a'"), ((), '{"after": [1,], \'prompt\': \'a\'}')]
    """

    __slots__ = (
        "_frames",
        "_mode",
        "_parts",
        "_quote",
        "_scalar",
        "_told",
        "_values",
        "certain",
        "end",
        "failed",
        "start",
        "torn",
    )

    def __init__(self, start: int, *, told: int = 4, certain: bool = False) -> None:
        self.start = start
        self.end: int | None = None
        """The offset after the value."""
        self.certain = certain
        """This is JSON rather than a brace in a text, which only the first key decides."""
        self.failed = False
        """This is no JSON."""
        self.torn = False
        """Two scalars touch, as they do where a string contains quotes that are not escaped."""
        self._told = told
        self._frames: list[_Frame] = []
        self._mode: Literal["between", "string", "word", "line", "block"] = "between"
        self._quote = '"'
        self._scalar = 0
        self._parts: list[str] = []
        self._values: list[Value] = []

    @property
    def path(self) -> Path:
        """The path of the next value."""
        return tuple([frame.position for frame in self._frames])

    def take(self) -> list[Value]:
        """Return the values that were completed since the last call, inner values first."""
        values, self._values = self._values, []
        return values

    def feed(self, buffer: str, at: int, *, base: int, final: bool = False) -> int:
        """Scan ``buffer``, whose first character has offset ``base``, from position ``at`` on.

        Return the position where the scan stopped: the end of the buffer, the end of the value, where it ``failed``,
        or before characters that cannot be understood without those that follow. ``final`` says that none will.
        """
        size = len(buffer)
        while at < size and self.end is None and not self.failed:
            match self._mode:
                case "between":
                    following = self._between(buffer, at, base, final)
                case "string":
                    following = self._string(buffer, at, base, final)
                case "word":
                    following = self._word(buffer, at)
                case "line" | "block":
                    following = self._comment(buffer, at, final)
            if following == _STALLED:
                break
            at = following
        return at

    def finish(self, end: int, *, closed: bool) -> CutScalar | None:
        """End the text at offset ``end``; a model that ``closed`` its turn there closed whatever is open as well.

        Otherwise return the scalar that was cut off, if any.
        """
        if self.failed or self.end is not None:
            return None
        if not self.certain:
            self.failed = True
            return None
        if not closed:
            is_string = self._mode == "string"
            return CutScalar(self._scalar + is_string, is_string) if is_string or self._mode == "word" else None
        rest = ""
        if self._mode == "string":
            rest = self._quote
            self._end_string(end, rest)
        elif self._mode == "word":
            self._end_word()
        while self._frames:
            rest += self._frames[-1].closer
            self._end_container(end, rest)
        return None

    def _between(self, buffer: str, at: int, base: int, final: bool) -> int:
        blank = _BLANK.match(buffer, at)
        if blank is not None and blank.end() > at:
            return blank.end()
        character = buffer[at]
        if not self.certain and not self._promises(character):
            self.failed = True
            return at
        match character:
            case "{" | "[":
                return self._open(character, at, base)
            case "}" | "]":
                self._shut(character, base + at + 1)
            case ",":
                self._separate()
            case ":":
                if self._frames[-1].expects == "colon":
                    self._frames[-1].expects = "value"
                    self.certain = True
            case '"' | "'":
                self._begin("string", base + at)
                self._quote = character
            case "#":
                self._mode = "line"
            case "/":
                return self._slash(buffer, at, base, final)
            case _:
                self._begin("word", base + at)
                return at
        return at + 1

    def _promises(self, character: str) -> bool:
        """Whether this may still become JSON, before its first colon."""
        if not self._frames:
            return True
        frame = self._frames[-1]
        if frame.closer == "]":
            return character == "{"
        if frame.expects == "colon":
            return character == ":"
        return character in "\"'#/" or _NAME.match(character) is not None

    def _open(self, character: str, at: int, base: int) -> int:
        if len(self._frames) == DEPTH:
            self.failed = True
            return at
        if self._frames and self._frames[-1].expects != "value":
            if self._frames[-1].expects == "key":
                self._frames[-1].key = ""
            self._frames[-1].expects = "value"
        if character == "{":
            self._frames.append(_Frame("}", base + at, "key"))
        else:
            self._frames.append(_Frame("]", base + at, "value"))
        return at + 1

    def _shut(self, character: str, end: int) -> None:
        if any(frame.closer == character for frame in self._frames):
            while self._frames[-1].closer != character:
                self._end_container(end - 1)
            self._end_container(end)

    def _separate(self) -> None:
        frame = self._frames[-1]
        frame.separated = True
        if frame.closer == "}" and frame.expects != "key":
            frame.expects = "key"  # a key without a value

    def _slash(self, buffer: str, at: int, base: int, final: bool) -> int:
        following = buffer[at + 1 : at + 2]
        if following in ("/", "*"):
            self._mode = "line" if following == "/" else "block"
            return at + 2
        if not following and not final:
            return _STALLED
        self._begin("word", base + at)
        return at

    def _comment(self, buffer: str, at: int, final: bool) -> int:
        mark = "\n" if self._mode == "line" else "*/"
        found = buffer.find(mark, at)
        if found >= 0:
            self._mode = "between"
            return found + len(mark)
        if mark == "*/" and buffer.endswith("*") and not final:
            return len(buffer) - 1 if len(buffer) - 1 > at else _STALLED
        return len(buffer)

    def _begin(self, mode: Literal["string", "word"], start: int) -> None:
        self._mode = mode
        self._parts = []
        self._scalar = start

    def _string(self, buffer: str, at: int, base: int, final: bool) -> int:
        run = _STRING_RUN[self._quote].match(buffer, at)
        if run is not None and run.end() > at:
            self._parts.append(run.group())
            return run.end()
        if buffer[at] == "\\":  # the last character of the buffer: it escapes the next one
            return at + 1 if final else _STALLED
        if self._quote == "'":
            if not final and _UNSURE_APOSTROPHE.fullmatch(buffer, at):
                return _STALLED
            if not _CLOSING_APOSTROPHE.match(buffer, at):
                self._parts.append("'")
                return at + 1
        self._end_string(base + at + 1)
        return at + 1

    def _end_string(self, end: int, rest: str = "") -> None:
        self._mode = "between"
        self._add(self._scalar, end, rest, text="".join(self._parts))

    def _word(self, buffer: str, at: int) -> int:
        run = (_WORD_RUN if self._frames[-1].expects == "value" else _KEY_RUN).match(buffer, at)
        if run is not None:
            self._parts.append(run.group())
            return run.end()
        if not self.certain and not _NAME.fullmatch("".join(self._parts)):
            self.failed = True
        else:
            self._end_word()
        return at

    def _end_word(self) -> None:
        self._mode = "between"
        text = _COMMENT_AFTER.sub("", "".join(self._parts)).rstrip()
        self._add(self._scalar, self._scalar + len(text), text=text)

    def _end_container(self, end: int, rest: str = "") -> None:
        frame = self._frames.pop()
        self.torn = self.torn or frame.expects == "colon"
        self._add(frame.start, end, rest)

    def _add(self, start: int, end: int, rest: str = "", *, text: str | None = None) -> None:
        """Put a value in its place, or take the ``text`` of a scalar as the next key."""
        frame = self._frames[-1] if self._frames else None
        if frame is None:
            self.end = end
        elif frame.expects != "value":
            assert text is not None  # a container is never opened here
            self.torn = self.torn or frame.expects == "colon"
            frame.key, frame.expects = text, "colon"
            return
        if len(self._frames) <= self._told:
            self._values.append(Value(self.path, self.start, start, end, rest))
        if frame is None:
            return
        if frame.closer == "}":
            frame.expects = "key"
        else:
            self.torn = self.torn or (text is not None and not frame.separated)
            frame.count += 1
        frame.separated = False
