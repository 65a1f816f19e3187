r"""Say whether a quote is within a string, by what follows it in a text that streams in.

A quote that a model forgot to escape does not end its string: the one that does is followed by what JSON allows. A
subtask starts as soon as it ends, so a few characters have to decide. ``quotes`` decides by the whole text.
"""

import re
from collections.abc import Sequence

from .container import Container

# An apostrophe ends a string only where something could follow the string: {'a': 'don't'} has one string, "don't".
_CLOSING_APOSTROPHE = re.compile(r"'[ \t]{0,8}(?:[,:}\]\r\n]|$)")
_UNSURE_APOSTROPHE = re.compile(r"'[ \t]{0,8}")
# So does a quote in a list of subtasks, which start as soon as they end: ["say "hi" now"] has one string. In an object
# of the list, the end or the next key follows, as in [{"prompt": "a 5", 6" and 7" pipe", "after": [1]}].
_QUOTE_IN_ARRAY = re.compile(r'"[ \t]{0,8}[^\s,:}\]{\["\'#/]')
_UNSURE_IN_ARRAY = re.compile(r'"[ \t]{0,8}')
_NAME = r"[A-Za-z_$][\w$-]{0,31}\s{0,8}"
_KEY = r'"(?:[^"\\]|\\.){0,40}+'
_KEY_OR_END = rf'[}}\]#]|/[/*]|{_KEY}(?:"\s{{0,8}}+(?:[\s:]|\Z)|[^"]|\Z)|{_NAME}(?::|\Z)|\Z'
_QUOTE_IN_ITEM = re.compile(
    rf"""\"(?!\s{{41}}|\s*(?:{_KEY_OR_END})|\s{{0,40}},(?:\s{{41}}|\s*(?:[,'“]|{_KEY_OR_END})))""", re.DOTALL
)
_UNSURE_IN_ITEM = re.compile(rf'"\s{{0,40}}(?:,\s{{0,40}})?(?:{_KEY}(?:\\|"\s{{0,8}})?|{_NAME}|/)?', re.DOTALL)


def is_within(text: str, at: int, quote: str, containers: Sequence[Container], *, final: bool) -> bool | None:
    r"""Say whether ``text[at]``, a ``quote``, is within the current string; None if that depends on what follows.

    ``containers`` are those around the string, and ``final`` says that no more text follows.

    >>> array, item = Container("]", 0, "value"), Container("}", 1, "value")
    >>> text = '5", 6" and 7" pipe", "after": []}'
    >>> [is_within(text, at, '"', [array, item], final=True) for at in (1, 5, 12, 18)]
    [True, True, True, False]
    """
    if quote == "'":
        if not final and _UNSURE_APOSTROPHE.fullmatch(text, at):
            return None
        return _CLOSING_APOSTROPHE.match(text, at) is None
    if quote != '"':
        return False
    container = containers[-1]
    if container.closer == "]":
        within, unsure = _QUOTE_IN_ARRAY, _UNSURE_IN_ARRAY
    elif container.expects == "value" and len(containers) > 1 and containers[-2].closer == "]":
        within, unsure = _QUOTE_IN_ITEM, _UNSURE_IN_ITEM
    else:
        return False
    if not final and unsure.fullmatch(text, at):
        return None
    return within.match(text, at) is not None
