r"""Values of JSON: where they stood, how models write them, and writing what is read back as it was."""

import json
import re
from typing import NamedTuple

from pydantic import JsonValue

LONGEST_ESCAPE = 12
"""The characters of a surrogate pair's two escapes."""

_HEX = "[0-9a-fA-F]"
_UNFINISHED_ESCAPE = re.compile(rf"\\(?:[bf]|u{_HEX}{{0,3}}|u[dD][89abAB]{_HEX}{{2}}(?:\\(?:u{_HEX}{{0,3}})?)?)?")
_PAIR = re.compile(rf"\\u([dD][89abAB]{_HEX}{{2}})\\u([dD][c-fC-F]{_HEX}{{2}})")
_UNIT = re.compile(rf"\\u({_HEX}{{4}})")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "'": "'"}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERALS: dict[str, bool | None] = {"null": None, "true": True, "false": False}
_LOOSE_LITERALS: dict[str, bool | None] = {"none": None, "undefined": None, **_LITERALS}
_SURROGATE = re.compile("[\ud800-\udfff]")  # halves of pairs, which no engine can encode

Path = tuple[str | int, ...]
"""Keys and positions that lead from the root to a value."""


class Node(NamedTuple):
    """A value that has come to its end, ``path`` being ``()`` for the root.

    Offsets count characters of the whole text, in which the root begins at ``root``. A string may be ``quoted``. What
    is written in strict JSON is ``exact``. ``rest`` is what was missing where the end of the text ended the value.
    """

    path: Path
    value: JsonValue
    root: int
    start: int
    end: int
    exact: bool
    quoted: bool = False
    rest: str = ""

    @property
    def content(self) -> tuple[int, int]:
        """Where the value stands, without its quotes."""
        return self.start + self.quoted, self.end - (self.quoted and not self.rest)

    def json(self, text: str) -> str:
        """Return the value in strict JSON: as it stands in the whole ``text`` if it is that already."""
        return text[self.start : self.end] if self.exact else write(self.value)


class OpenScalar(NamedTuple):
    """A string, number or word that the end of the text cut off; ``start`` is where it begins, quotes not counted."""

    text: str
    start: int
    is_string: bool


def read_escape(tail: str, *, final: bool) -> tuple[str, int, bool] | None:
    r"""Read the escape at the beginning of ``tail``: its text, its length, and whether JSON has it.

    None if more characters are needed to tell. A backslash that escapes nothing stands for itself, and so does that of
    ``\boxed`` and ``\frac``, whose backspace and form feed nobody means.

    >>> read_escape("\\u00e9t", final=False), read_escape("\\(x", final=False), read_escape("\\u00", final=False)
    (('é', 6, True), ('\\', 1, False), None)
    """
    tail = tail[:LONGEST_ESCAPE]
    if not final and _UNFINISHED_ESCAPE.fullmatch(tail):
        return None
    if pair := _PAIR.match(tail):
        high, low = (int(unit, 16) for unit in pair.groups())
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), pair.end(), True
    if unit := _UNIT.match(tail):
        code = int(unit[1], 16)
        alone = 0xD800 <= code <= 0xDFFF
        return "\ufffd" if alone else chr(code), unit.end(), not alone
    character = tail[1:2]
    command = character in ("b", "f") and tail[2:3].isalpha()
    if character in _ESCAPES and not command:
        return _ESCAPES[character], 2, character != "'"
    return "\\", 1, False


def read_word(text: str) -> tuple[JsonValue, bool]:
    """Read what stands without quotes, and say whether JSON has it; what is no number or literal is a text.

    >>> read_word("12"), read_word("None"), read_word("25+7*3")
    ((12, True), (None, False), ('25+7*3', False))
    """
    if text in _LITERALS:
        return _LITERALS[text], True
    if text.lower() in _LOOSE_LITERALS:
        return _LOOSE_LITERALS[text.lower()], False
    return _number(text), _NUMBER.fullmatch(text) is not None


def _number(text: str) -> JsonValue:
    """Read a number as Python would, or leave it a text, as infinities and numbers of thousands of digits are."""
    if len(text) < 300 and text.isascii():
        try:
            return int(text)
        except ValueError:
            pass
        try:
            value = float(text)
        except ValueError:
            return text
        return value if value - value == 0 else text
    return text


def write(value: JsonValue, *, marks: tuple[str, ...] = ()) -> str:
    r"""Write a value so that it is read back as it was, here and by any reader, and holds none of ``marks``.

    Backspace and form feed are written by their numbers, as are the first characters of ``marks`` (such as those that
    end a turn) and of ``<|``, with which special tokens begin.

    >>> write({"prompt": "é\b<|im_end|>"})
    '{"prompt": "é\\u0008\\u003c|im_end|>"}'
    """
    return without_marks(_SURROGATE.sub("\ufffd", _encode(value)), marks)


def without_marks(text: str, marks: tuple[str, ...]) -> str:
    r"""Write JSON, given as ``text``, so that it holds none of ``marks`` and means the same; see ``write``."""
    if "\\" in text:
        text = re.sub(r"\\(?:([bf])|.)", lambda match: _CONTROL[match[1]] if match[1] else match[0], text)
    for mark in ("<|", *marks):
        if mark in text:
            text = text.replace(mark, f"\\u{ord(mark[0]):04x}{mark[1:]}")
    return text


_encode = json.JSONEncoder(ensure_ascii=False).encode  # ``dumps`` would make an encoder each time
_CONTROL = {"b": "\\u0008", "f": "\\u000c"}
