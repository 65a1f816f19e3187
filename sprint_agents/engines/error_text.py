"""The messages of servers about their failures, short and without characters that a terminal may obey."""

import json
from typing import Any, cast

from .json_text import read_json

_LONGEST_MESSAGE = 2000
_SHOWN = 300


def message_of(text: str) -> str:
    """Return the message in the body of an error, which may have OpenAI's form, FastAPI's, or be plain text.

    >>> message_of('[{"error": {"code": 400, "message": "bad top_p"}}]'), message_of('{"error": {"message": ""}}')
    ('bad top_p', '{"message": ""}')
    """
    try:
        value = alone(read_json(text))
        for key in ("error", "message", "detail"):
            if isinstance(value, dict):
                value = cast(dict[str, Any], value).get(key) or cast(dict[str, Any], value)
        if not isinstance(value, str):
            return plain(json.dumps(value))
    except (ValueError, RecursionError):
        return plain(text)
    return printable(value[:_LONGEST_MESSAGE] + " …" if len(value) > _LONGEST_MESSAGE else value)


def alone(value: object) -> object:
    """Return the only item of a list, since Gemini's API sends its errors in one; any other value itself."""
    items = cast(list[object], value) if isinstance(value, list) else []
    return items[0] if len(items) == 1 else cast(object, value)


def plain(text: str) -> str:
    """Return the beginning of a text of any kind."""
    words = " ".join(text[: 8 * _SHOWN].split())
    return printable(words[:_SHOWN] + " …" if len(words) > _SHOWN else words) or "(an empty answer)"


def printable(text: str) -> str:
    """Replace control characters, which a terminal may obey; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)
