r"""The value of a final answer: the content of its last ``\boxed{…}``."""

import re

_TOKEN = re.compile(r"(?P<boxed>\\{1,3}boxed\s*\{)|\\.|[{}]", re.DOTALL)


def boxed(text: str) -> str | None:
    r"""Return the content of the last closed ``\boxed{…}``, braces balanced; None if there is none.

    ``\{`` and ``\}`` do not count as braces; the backslash itself may be doubled, as in escaped logs. O(characters).

    >>> boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    content: str | None = None
    opened: list[int | None] = []
    for match in _TOKEN.finditer(text):
        if match["boxed"]:
            opened.append(match.end())
        elif match.group() == "{":
            opened.append(None)
        elif match.group() == "}" and opened:
            start = opened.pop()
            if start is not None:
                content = text[start : match.start()]
    return None if content is None else content.strip()


def answer_value(text: str) -> str:
    r"""Return the content of an answer's ``\boxed{…}``, or its whole text if it has none.

    >>> answer_value(r"Based on execution_1.2: \boxed{25+7*3}"), answer_value(" no solution found ")
    ('25+7*3', 'no solution found')
    """
    value = boxed(text)
    return text.strip() if value is None else value
