r"""Read one JSON object or array from a stream: JSON as it should be, and as models write it.

Invariants:

- Nothing makes the parser raise, and what it finds does not depend on how the text was cut into chunks.
- A value comes out with the chunk that holds its last character. A chunk costs its own length: what is held back for
  the next one is shorter than ``LONGEST_ESCAPE``.
- Values are nested at most ``DEPTH`` deep, so no later step meets a recursion limit.

Read beside JSON, and then not ``exact``: comments; keys and words without quotes, or in single ones; commas too many or
too few; ``True`` and ``None``; raw line breaks in strings; backslashes that escape nothing, as in ``"\(x\)"``; closing
brackets of outer values in the place of inner ones.
"""

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from .values import LONGEST_ESCAPE, Node, OpenScalar, Path, read_escape, read_word

DEPTH = 64
"""How deep values may be nested."""

_STALLED = -1
_TOLD_DEPTH = 4
_BLANK = re.compile(r"\s*")
_STRING_RUN = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
# An apostrophe ends a string only where something could follow the string.
_CLOSING_APOSTROPHE = re.compile(r"'[ \t]{0,8}(?:[,:}\]\r\n]|$)")
_UNSURE_APOSTROPHE = re.compile(r"'[ \t]{0,8}")
_CONTROL = re.compile(r"[\x00-\x1f]")
_KEY_RUN = re.compile(r"""[^\s,:\[\]{}"']+""")
_WORD_RUN = re.compile(r'[^,\]{}\n"]+')
_COMMENT_BEHIND = re.compile(r"\s(?://|/\*|#).*", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_$][\w$-]*")


@dataclass(slots=True)
class _Frame:
    container: list[JsonValue] | dict[str, JsonValue]
    start: int
    repairs: int
    expects: Literal["key", "colon", "value"]
    key: str = ""
    separated: bool = True

    @property
    def closer(self) -> str:
        return "}" if isinstance(self.container, dict) else "]"

    def position(self) -> str | int:
        """Name the value that comes next."""
        return self.key if isinstance(self.container, dict) else len(self.container)


class JsonParser:
    r"""Read the value that begins at ``start`` with ``{`` or ``[``; values down to four levels are told as they end.

    ``failed`` says that this is no JSON but a brace in a text, which is certain only behind the first key.

    >>> parser = JsonParser(0)
    >>> text = '{"after": [1, 2,], \'prompt\': "a\\ud83d\\ude00"} and more'
    >>> text[parser.feed(text, 0, base=0) :]
    ' and more'
    >>> [(node.path, node.value) for node in parser.take()]  # doctest: +NORMALIZE_WHITESPACE
    [(('after', 0), 1), (('after', 1), 2), (('after',), [1, 2]), (('prompt',), 'a😀'),
     ((), {'after': [1, 2], 'prompt': 'a😀'})]
    """

    __slots__ = (
        "_controls",
        "_mode",
        "_nodes",
        "_odd_blanks",
        "_parts",
        "_quote",
        "_scalar_repairs",
        "_scalar_start",
        "_stack",
        "_tentative",
        "end",
        "failed",
        "repairs",
        "start",
    )

    def __init__(self, start: int) -> None:
        self.start = start
        self.end: int | None = None
        """Where the value ended."""
        self.failed = False
        self.repairs = 0
        """How often the text was not what JSON says."""
        self._tentative = True
        self._stack: list[_Frame] = []
        self._mode: Literal["between", "string", "bare", "line", "block"] = "between"
        self._quote = '"'
        self._parts: list[str] = []
        # Noted here and counted once, so that the count does not depend on the chunks.
        self._controls = False
        self._odd_blanks = False
        self._scalar_start = 0
        self._scalar_repairs = 0
        self._nodes: list[Node] = []

    @property
    def certain(self) -> bool:
        """Whether this is JSON beyond doubt."""
        return not self._tentative

    @property
    def path(self) -> Path:
        """Where reading has come to."""
        return tuple(frame.position() for frame in self._stack)

    def take(self) -> list[Node]:
        """Return what came to an end since the last time, inner values first."""
        nodes, self._nodes = self._nodes, []
        return nodes

    def feed(self, buffer: str, at: int, *, base: int, final: bool = False) -> int:
        """Read ``buffer`` from ``at`` on, ``base`` being its offset in the text; return where reading stopped.

        That is at the buffer's end, or where the value ended or ``failed``, or before something that is not understood
        until more of it is there. ``final`` says that there will be no more.
        """
        size = len(buffer)
        while at < size and self.end is None and not self.failed:
            match self._mode:
                case "between":
                    following = self._between(buffer, at, base, final)
                case "string":
                    following = self._string(buffer, at, base, final)
                case "bare":
                    following = self._bare(buffer, at, base)
                case "line" | "block":
                    following = self._comment(buffer, at, final)
            if following == _STALLED:
                break
            at = following
        return at

    def finish(self, end: int, *, ended: bool) -> OpenScalar | None:
        """End the text at offset ``end``; where it was ``ended`` on purpose, whatever is open ends there as well.

        Otherwise return the scalar in which it was cut off, if it was in one.
        """
        if self.failed or self.end is not None:
            return None
        if self._tentative:
            self.failed = True
            return None
        rest = ""
        if self._mode in ("string", "bare"):
            if not ended:
                text, is_string = "".join(self._parts), self._mode == "string"
                return OpenScalar(text, self._scalar_start + is_string, is_string)
            if self._mode == "string":
                rest = self._quote
                self.repairs += 1
                self._end_string(end, rest)
            else:
                self._end_bare()
        if not ended:
            return None
        while self._stack:
            self.repairs += 1
            rest += self._stack[-1].closer
            self._end_container(end, rest)
        return None

    def _between(self, buffer: str, at: int, base: int, final: bool) -> int:
        blank = _BLANK.match(buffer, at)
        if blank is not None and blank.end() > at:
            self._odd_blanks = self._odd_blanks or bool(blank.group().strip(" \t\r\n"))
            return blank.end()
        character = buffer[at]
        if self._tentative and not self._promises(character):
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
                self._colon()
            case '"' | "'":
                self._begin("string", base + at)
                self._quote = character
                self.repairs += character == "'"
            case "#":
                self._mode = "line"
                self.repairs += 1
            case "/":
                return self._slash(buffer, at, base, final)
            case _:
                self._begin("bare", base + at)
                return at
        return at + 1

    def _promises(self, character: str) -> bool:
        """Whether this may still become JSON, before its first colon."""
        if not self._stack:
            return True
        frame = self._stack[-1]
        if isinstance(frame.container, list):
            return character == "{"
        if frame.expects == "colon":
            return character == ":"
        return character in "\"'#/" or _NAME.match(character) is not None

    def _open(self, character: str, at: int, base: int) -> int:
        if len(self._stack) == DEPTH:
            self.failed = True
            return at
        if self._stack and self._stack[-1].expects != "value":
            self.repairs += 1
            if self._stack[-1].expects == "key":
                self._stack[-1].key = ""
            self._stack[-1].expects = "value"
        if character == "{":
            self._stack.append(_Frame({}, base + at, self.repairs, "key"))
        else:
            self._stack.append(_Frame([], base + at, self.repairs, "value"))
        return at + 1

    def _shut(self, character: str, end: int) -> None:
        if not any(frame.closer == character for frame in self._stack):
            self.repairs += 1
            return
        while self._stack[-1].closer != character:
            self.repairs += 1
            self._end_container(end - 1)
        self._end_container(end)

    def _separate(self) -> None:
        frame = self._stack[-1]
        self.repairs += frame.separated
        frame.separated = True
        if isinstance(frame.container, dict) and frame.expects != "key":
            self.repairs += 1  # a key without a value
            frame.expects = "key"

    def _colon(self) -> None:
        frame = self._stack[-1]
        if frame.expects == "colon":
            frame.expects = "value"
            self._tentative = False
        else:
            self.repairs += 1

    def _slash(self, buffer: str, at: int, base: int, final: bool) -> int:
        following = buffer[at + 1 : at + 2]
        if following in ("/", "*"):
            self._mode = "line" if following == "/" else "block"
            self.repairs += 1
            return at + 2
        if not following and not final:
            return _STALLED
        self._begin("bare", base + at)
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

    def _begin(self, mode: Literal["string", "bare"], start: int) -> None:
        self._mode = mode
        self._parts = []
        self._scalar_start = start
        self._scalar_repairs = self.repairs

    def _string(self, buffer: str, at: int, base: int, final: bool) -> int:
        run = _STRING_RUN[self._quote].match(buffer, at)
        if run is not None and run.end() > at:
            piece = run.group()
            self._controls = self._controls or _CONTROL.search(piece) is not None
            self._parts.append(piece)
            return run.end()
        if buffer[at] == "\\":
            return self._escape(buffer, at, final)
        if self._quote == "'":
            if not final and _UNSURE_APOSTROPHE.fullmatch(buffer, at):
                return _STALLED
            if not _CLOSING_APOSTROPHE.match(buffer, at):
                self._parts.append("'")
                return at + 1
        self._end_string(base + at + 1)
        return at + 1

    def _escape(self, buffer: str, at: int, final: bool) -> int:
        escape = read_escape(buffer[at : at + LONGEST_ESCAPE], final=final)
        if escape is None:
            return _STALLED
        text, size, exact = escape
        self.repairs += not exact
        self._parts.append(text)
        return at + size

    def _end_string(self, end: int, rest: str = "") -> None:
        self._mode = "between"
        self.repairs += self._controls
        self._controls = False
        exact = self.repairs == self._scalar_repairs
        self._add("".join(self._parts), self._scalar_start, end, exact, quoted=True, rest=rest)

    def _bare(self, buffer: str, at: int, base: int) -> int:
        run = (_WORD_RUN if self._stack[-1].expects == "value" else _KEY_RUN).match(buffer, at)
        if run is not None:
            self._parts.append(run.group())
            return run.end()
        if self._tentative and not _NAME.fullmatch("".join(self._parts)):
            self.failed = True
        else:
            self._end_bare()
        return at

    def _end_bare(self) -> None:
        text = "".join(self._parts)
        said = _COMMENT_BEHIND.sub("", text).rstrip()
        value, exact = read_word(said)
        self.repairs += not exact or said != text.rstrip()
        self._mode = "between"
        self._add(value, self._scalar_start, self._scalar_start + len(said), exact)

    def _end_container(self, end: int, rest: str = "") -> None:
        frame = self._stack.pop()
        complete = frame.expects == ("key" if isinstance(frame.container, dict) else "value")
        self.repairs += not complete or (frame.separated and bool(frame.container)) or self._odd_blanks
        self._odd_blanks = False
        self._add(frame.container, frame.start, end, self.repairs == frame.repairs, rest=rest)

    def _add(
        self, value: JsonValue, start: int, end: int, exact: bool, *, quoted: bool = False, rest: str = ""
    ) -> None:
        """Put a value in its place, or take it as the next key."""
        frame = self._stack[-1] if self._stack else None
        if frame is None:
            self.end = end
        elif isinstance(frame.container, list) or frame.expects != "value":
            self.repairs += not frame.separated
            frame.separated = False
        if frame is not None and frame.expects != "value":
            # Only a string is a key in JSON; two in a row have been counted, for want of a comma.
            self.repairs += not isinstance(value, str)
            frame.key = value if isinstance(value, str) else str(value)
            frame.expects = "colon"
            return
        if len(self._stack) <= _TOLD_DEPTH:
            self._nodes.append(Node(self.path, value, self.start, start, end, exact, quoted, rest))
        if frame is None:
            return
        if isinstance(frame.container, list):
            frame.container.append(value)
        else:
            frame.container[frame.key] = value
            frame.expects = "key"
