r"""Strings whose quotes a model forgot to escape, as in ``{"code": "print("a", 1)", "run": true}``.

A quote ends a string only where JSON could go on from there. For a key that is a colon. For a value of an object it is
the object's next key, the object's end with something after it, or closing brackets up to the end of the text; for an
item of an array, the next item or the array's end. A comma may be missing there, so that two strings are not read as
one. If a string holds JSON itself, as in ``{"arguments": "{"a": "b", "c": 1}"}``, a bracket comes before its end.
"""

import re

_STRUCTURE = re.compile(r"""[{}\[\],:"]|//[^\n]*|(?<=[\s{\[,:])'[^'\n]*'(?=\s*[,:}\]])""")
_QUOTE = re.compile(r'\\.|"', re.DOTALL)
_KEY = r'"[^"\n]{1,40}"\s*:'
_NEXT = r"(?:\s*,\s*(?://[^\n]{0,80}\n\s*)?|\s+)"
_END = r"[\s,}\]]*\Z"
_AFTER_KEY = re.compile(r"\s*:")
_AFTER_VALUE = re.compile(rf"{_NEXT}{_KEY}|\s*\}}[\s}}\]]*,\s*(?:\{{|{_KEY})|{_END}")
_AFTER_ITEM = re.compile(rf'{_NEXT}[\["{{]|\s*\][\s}}\]]*,\s*(?:\{{|{_KEY})|{_END}')
_JSON_WITHIN = re.compile(r'\s*[{\[]\s*["{\[]')
_JSON_ENDS = re.compile(r"[}\]]\s{0,8}\Z")


def strings_of(text: str) -> list[tuple[int, int]]:
    r"""Return where the content of each string of an object or array begins and ends; empty if one has no end.

    Takes time in proportion to the length of ``text``.

    >>> text = '{"code": "print("a", 1)", "run": true}'
    >>> [text[begin:end] for begin, end in strings_of(text)]
    ['code', 'print("a", 1)', 'run']
    """
    found: list[tuple[int, int]] = []
    containers: list[str] = []
    at, key = 0, False
    while structure := _STRUCTURE.search(text, at):
        mark, at = structure[0], structure.end()
        in_object = containers[-1:] == ["{"]
        if mark == '"':
            end = _end(text, at, _AFTER_KEY if key else _AFTER_VALUE if in_object else _AFTER_ITEM)
            if end is None:
                return []
            found.append((at, end))
            at, key = end + 1, in_object and not key  # where a comma is missing, a key is next
            continue
        if mark in "{[":
            containers.append(mark)
        elif mark in "}]" and containers:
            containers.pop()
        key = mark != ":" and containers[-1:] == ["{"]
    return found


def _end(text: str, begin: int, after: re.Pattern[str]) -> int | None:
    """Return where the string that begins at an offset ends; None if it does not."""
    within = _JSON_WITHIN.match(text, begin) is not None
    first = None
    for quote in _QUOTE.finditer(text, begin):
        end = quote.start()
        if quote[0] == '"' and after.match(text, end + 1):
            if not within or _JSON_ENDS.search(text, max(begin, end - 9), end):
                return end
            first = end if first is None else first
    return first
