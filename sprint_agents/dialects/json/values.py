r"""Read the values that models write as JSON, and write values so that any reader understands them."""

import json
import re
from collections.abc import Sequence

from pydantic import JsonValue
from pydantic_core import from_json

from .container import Value
from .quotes import escape
from .scanner import DEPTH, QUOTES, JsonScanner
from .words import normal

_HEX = "[0-9a-fA-F]"
_ESCAPE = re.compile(
    rf"\\(?:(?P<valid>u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}|u(?![dD][89a-fA-F]){_HEX}{{4}}"
    rf'|["\\/nrt]|[bf](?![A-Za-z]))|(?P<half>u{_HEX}{{4}})|(?P<apostrophe>\'))?'
)
_UNFINISHED_ESCAPE = re.compile(rf"\\(?:u{_HEX}{{0,3}})?$")
_RAW = re.compile(r'\\.|["\x00-\x1f]', re.DOTALL)
_OVERFLOW = re.compile(r"[0-9][eE]\+?[0-9]{3}")  # maybe too large, and read as an infinity
_LITERALS: dict[str, bool | None] = {"null": None, "none": None, "undefined": None, "true": True, "false": False}
_PLACEHOLDER = re.compile(r"""[\s"'`<\[({]*(?:…|\.\.)[\s.…,"'`>\])}]*""")
_NEXT_KEY = re.compile(r'"\s*,\s*"([^"\n]{1,40})"\s*:')
_LAST_QUOTE = re.compile(r'"[\s}\]]*\Z')
_AFTER_STRING = ",}]/#"
"""The characters that may follow a string; the last ones begin a comment."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode  # ``dumps`` would make an encoder each time
_CONTROL = {"b": "\\u0008", "f": "\\u000c"}


def read_value(text: str) -> tuple[JsonValue, str]:
    r"""Read one value, and write it as strict JSON: the same text if it is strict JSON already.

    Accepts everything that ``JsonScanner`` does; never raises. A backslash that escapes nothing is kept, and so is
    the one of ``\boxed`` and ``\frac``: no model means a backspace or a form feed there.

    >>> read_value("0.10"), read_value(r'"\(x\)"'), read_value("{'a': None,}"), read_value("25+7*3")
    ((0.1, '0.10'), ('\\(x\\)', '"\\\\(x\\\\)"'), ({'a': None}, '{"a": null}'), ('25+7*3', '"25+7*3"'))
    """
    strict = _ESCAPE.sub(_escape, text) if "\\" in text else text
    try:
        value = from_json(strict, allow_inf_nan=False)
        if _OVERFLOW.search(strict):
            json.dumps(value, allow_nan=False)
    except (ValueError, TypeError):  # the latter of lone surrogates
        pass
    else:
        return value, strict
    if text[:1] in ("{", "["):
        value = _read_container(text, strict)
    elif text[:1] in QUOTES:
        value = read_string(text[1:-1])
    else:
        value = _read_word(text)
    return value, write(value)


def is_placeholder(text: str) -> bool:
    """Say whether a text is what a prompt has in place of a value, and no value.

    >>> [is_placeholder(text) for text in ("…", " <...> ", '"…"', "Wait…", "0", "")]
    [True, True, True, False, False, False]
    """
    return _PLACEHOLDER.fullmatch(text) is not None


def read_scanned(scanner: JsonScanner, value: Value) -> tuple[JsonValue, str]:
    """Read a value that a scanner found; see ``read_value``."""
    return read_value(scanner.slice(value.start, value.end) + value.rest)


def whole_string(scanner: JsonScanner, value: Value, *, end: int, keys: Sequence[str]) -> Value:
    r"""Return all of a string whose quotes are not escaped, in an object that ends at offset ``end``.

    The scanner ends it at the first quote. It ends at the last one, or before the next of ``keys``. Three quotes at
    each end, as in Python, are one. Every other value is returned as it is.

    >>> scanner = JsonScanner(told=1)
    >>> string, root = scanner.feed('{"result": "Say "yes" or "no"."}')
    >>> read_scanned(scanner, whole_string(scanner, string, end=root.end, keys=["thoughts"]))[0]
    'Say "yes" or "no".'
    """
    if not scanner.torn or value.kind != "string":
        return value
    text = scanner.slice(value.start, end)
    if text[0] != '"' or text[value.end - value.start :].lstrip()[:1] in _AFTER_STRING:
        return value
    last = next((found for found in _NEXT_KEY.finditer(text, 1) if normal(found[1]) in keys), None)
    last = last or _LAST_QUOTE.search(text, 1)
    if last is None:  # cut off
        return value._replace(end=end, rest='"')
    stop = last.start() + 1
    triple = 2 if stop > len('"""""') and text.startswith('"""') and text.endswith('"""', 0, stop) else 0
    return value._replace(start=value.start + triple, end=value.start + stop - triple)


def read_string(content: str) -> str:
    """Read the content of a string, which may contain raw line breaks and quotes, and end within an escape."""
    content = _ESCAPE.sub(_escape, _UNFINISHED_ESCAPE.sub("", content) if content.endswith("\\") else content)
    raw = _RAW.sub(lambda found: found[0] if found[0][0] == "\\" else _ENCODE(found[0])[1:-1], content)
    return from_json(f'"{_whole(raw)}"')


def unwrap(value: JsonValue, names: Sequence[str]) -> JsonValue:
    """Return the text in objects whose only key is one of ``names``, or the value itself if there is none.

    >>> unwrap({"result": {"result": "four"}}, ["result"]), unwrap({"result": "four", "unit": "m"}, ["result"])
    ('four', {'result': 'four', 'unit': 'm'})
    """
    inner = value
    while isinstance(inner, dict) and len(inner) == 1 and next(iter(inner)) in names:
        (inner,) = inner.values()
    return inner if isinstance(inner, str) else value


def write(value: JsonValue, *, marks: tuple[str, ...] = ()) -> str:
    r"""Write a value so that any reader, this package's included, reads it back, and that it contains no ``marks``.

    Backspace and form feed are written as code points, and so are the first characters of ``marks`` (such as those that
    end a turn) and of ``<|``, which begins special tokens.

    >>> write({"prompt": "é\b<|im_end|>"})
    '{"prompt": "é\\u0008\\u003c|im_end|>"}'
    """
    return without_marks(_whole(_ENCODE(value)), marks)


def write_string(content: str, *, marks: tuple[str, ...] = ()) -> str:
    """Write the content of a string, as a model wrote it, as ``write`` does."""
    return write(read_string(content), marks=marks)


def without_marks(text: str, marks: tuple[str, ...]) -> str:
    r"""Rewrite JSON ``text`` so that it contains no ``marks`` and has the same meaning; see ``write``."""
    if "\\" in text:
        text = re.sub(r"\\(?:([bf])|.)", lambda match: _CONTROL[match[1]] if match[1] else match[0], text)
    for mark in ("<|", *marks):
        if mark in text:
            text = text.replace(mark, f"\\u{ord(mark[0]):04x}{mark[1:]}")
    return text


def _whole(text: str) -> str:
    """Replace halves of surrogate pairs, which no engine can encode."""
    return _SURROGATE.sub("\ufffd", text)


def _escape(found: re.Match[str]) -> str:
    if found["valid"]:
        return found[0]
    if found["half"]:  # of a surrogate pair
        return "\ufffd"
    return "'" if found["apostrophe"] else r"\\"


def _read_word(text: str) -> JsonValue:
    """Read a literal as other languages write it, or a number as Python does; anything else is a text."""
    if text.lower() in _LITERALS:
        return _LITERALS[text.lower()]
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


def _read_container(text: str, strict: str) -> JsonValue:
    """Build an object or array from the values that a scanner finds in it."""
    scanner = JsonScanner(certain=True, told=DEPTH)
    values = [*scanner.feed(text), *scanner.close(closed=True)]
    if scanner.torn:
        text = escape(strict, write_string).text
        scanner = JsonScanner(certain=True, told=DEPTH)
        values = [*scanner.feed(text), *scanner.close(closed=True)]
    # Inner values come first: each waits under its container's path until the container itself comes.
    waiting: dict[tuple[str | int, ...], list[tuple[str | int, JsonValue]]] = {}
    value: JsonValue = text
    for path, kind, _, start, end, rest in values:
        if kind == "object":
            value = {read_string(str(key)): item for key, item in waiting.pop(path, ())}
            if value.keys() == {""} and isinstance(inner := value[""], dict):  # {{"a": 1}}, from a template
                value = inner
        elif kind == "array":
            value = [item for _, item in waiting.pop(path, ())]
        else:
            value = read_value(text[start:end] + rest)[0]
        if path:
            waiting.setdefault(path[:-1], []).append((path[-1], value))
    return value
