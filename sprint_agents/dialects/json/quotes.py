r"""Escape the quotes in strings that a model forgot to escape, as in ``{"code": "print("a", 1)", "run": true}``.

A quote ends a string only where JSON could go on from there. For a key that is a colon. For a value of an object it is
the object's next key, the object's end with something after it, or closing brackets up to the end of the text; for an
item of an array, the next item or the array's end. A comma may be missing there, so that two strings are not read as
one. If a string holds JSON itself, as in ``{"arguments": "{"a": "b", "c": 1}"}``, a bracket comes before its end.
Three quotes at each end, as in Python, are one.
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

_STRUCTURE = re.compile(r"""[{}\[\],:"]|//[^\n]*|(?<=[\s{\[,:])'[^'\n]*'(?=\s*[,:}\]])""")
_QUOTE = re.compile(r'\\.|"', re.DOTALL)
_TRIPLE = '"""'
_KEY = r'"[^"\n]{1,40}"\s*:'
_COMMENT = r"(?://[^\n]{0,80}\n\s*)?"
_NEXT = rf"(?:\s*{_COMMENT},\s*{_COMMENT}|\s+)"
_END = r"[\s,}\]]*(?:```|</\w+>)?\s*\Z"
_AFTER_KEY = re.compile(r"\s*:")
_AFTER_VALUE = re.compile(rf"{_NEXT}{_KEY}|\s*\}}[\s}}\]]*,\s*(?:\{{|{_KEY})|{_END}")
_AFTER_ITEM = re.compile(rf'{_NEXT}[\["{{]|\s*\][\s}}\]]*,\s*(?:\{{|{_KEY})|{_END}')
_JSON_WITHIN = re.compile(r'\s*[{\[]\s*["{\[]')
_JSON_ENDS = re.compile(r"[}\]]\s{0,8}\Z")


@dataclass(frozen=True, slots=True)
class Escaped:
    """A text in which quotes are escaped, and where each of its parts begins in it and began in the original."""

    text: str
    starts: tuple[int, ...]
    origins: tuple[int, ...]

    def origin(self, offset: int) -> int:
        """Return where something was in the original; ``offset`` is outside of strings, or at one end of a content."""
        part = bisect_right(self.starts, offset) - 1
        return self.origins[part] + offset - self.starts[part]


def escape(text: str, write: Callable[[str], str]) -> Escaped:
    r"""Write each string of an object or array anew; the text is unchanged if one of them has no end.

    Takes time in proportion to the length of ``text``. ``write`` makes a JSON string of what a model wrote between the
    quotes.

    >>> from json import dumps
    >>> print(escape('{"code": "print("a", 1)", "run": true}', dumps).text)
    {"code": "print(\"a\", 1)", "run": true}
    """
    parts: list[str] = []
    starts, origins = [0], [0]
    at = length = 0
    for begin, end, quotes in _strings(text):
        written = write(text[begin:end])
        parts += (text[at : begin - quotes], written)
        length += begin - quotes - at + len(written)
        starts += (length - len(written) + 1, length - 1, length)
        origins += (begin, end, end + quotes)
        at = end + quotes
    return Escaped("".join((*parts, text[at:])), tuple(starts), tuple(origins))


def _strings(text: str) -> list[tuple[int, int, int]]:
    """Return where the content of each string begins and ends, and its quotes on each side; empty if one has no end."""
    found: list[tuple[int, int, int]] = []
    containers: list[str] = []
    at, key = 0, False
    while structure := _STRUCTURE.search(text, at):
        mark, at = structure[0], structure.end()
        in_object = containers[-1:] == ["{"]
        if mark == '"':
            end = text.find(_TRIPLE, at + 2) if text.startswith(_TRIPLE, at - 1) else -1
            quotes = 3 if end >= 0 else 1
            if end < 0:
                end = _end(text, at, _AFTER_KEY if key else _AFTER_VALUE if in_object else _AFTER_ITEM)
            if end < 0:
                return []
            found.append((at + quotes - 1, end, quotes))
            at, key = end + quotes, in_object and not key  # where a comma is missing, a key is next
            continue
        if mark in "{[":
            containers.append(mark)
        elif mark in "}]" and containers:
            containers.pop()
        key = mark != ":" and containers[-1:] == ["{"]
    return found


def _end(text: str, begin: int, after: re.Pattern[str]) -> int:
    """Return where the string that begins at an offset ends; -1 if it does not."""
    within = _JSON_WITHIN.match(text, begin) is not None
    first = -1
    for quote in _QUOTE.finditer(text, begin):
        end = quote.start()
        if quote[0] == '"' and after.match(text, end + 1):
            if not within or _JSON_ENDS.search(text, max(begin, end - 9), end):
                return end
            first = end if first < 0 else first
    return first
