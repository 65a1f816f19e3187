"""Splits a task into numbers, words and signs.

Tasks come from outside, so reading one is cheap whatever it holds: a text of more than ``LONGEST`` characters is not
read at all, and a shorter one is read in one pass. The alternatives of ``_TOKEN`` begin with different characters and
nothing follows their repetitions, so matching never backtracks.
"""

import re

LONGEST = 400
"""Characters of the longest text that is read, without the white space around it."""

_DIGITS = 18
"""Digits of the longest number that is read."""

_TOKEN = re.compile(r"[0-9]+|[a-z]+|\S")
_SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "−": "-", "–": "-", "÷": "/"})  # noqa: RUF001
_WORDS = {"x": "*", "times": "*"}
_OPENINGS = (
    *(("what", "is"), ("what", "'", "s"), ("what", "’", "s"), ("calculate",), ("evaluate",)),  # noqa: RUF001
    *(("solve", "the", "following", "multiplication"), ("solve",)),
)
_RESULT_ONLY = ["give", "only", "the", "result", "as", "your", "final", "answer", "."]
"""How reasoning-gym ends a multiplication."""
_ENDINGS = ("=", "?", ".")


def scan(text: str) -> list[str]:
    """Return the numbers, lower-case words and signs of ``text``; an empty list for a text that is too long to read.

    >>> scan("Compute 12×(3 − 4).")
    ['compute', '12', '*', '(', '3', '-', '4', ')', '.']
    >>> scan("9" * 5000)
    []
    """
    text = text.strip()
    if len(text) > LONGEST:
        return []
    found: list[str] = _TOKEN.findall(text.translate(_SIGNS).lower())
    tokens = [_WORDS.get(token, token) for token in found]
    return [] if any(len(token) > _DIGITS and is_number(token) for token in tokens) else tokens


def is_number(token: str) -> bool:
    """Whether ``token`` is a number."""
    return token.isascii() and token.isdigit()


def whole_numbers(tokens: list[str], *, without: tuple[str, ...]) -> list[int] | None:
    """Return the numbers of ``tokens``, which may also be ``without``; None if one is something else."""
    numbers = [token for token in tokens if token not in without]
    return list(map(int, numbers)) if all(map(is_number, numbers)) else None


def after_keyword(tokens: list[str], *keywords: str) -> list[str] | None:
    """Return what follows a keyword, without colons after it and full stops at the end; None without a keyword.

    >>> after_keyword(scan("Multiply: 3 by 4."), "multiply")
    ['3', 'by', '4']
    """
    if not tokens or tokens[0] not in keywords:
        return None
    return _inside(tokens, 1, endings=(".",))


def without_question(tokens: list[str]) -> list[str]:
    """Return the middle of a question such as "What is 3 + 4?" or "3 + 4 =".

    >>> without_question(scan("What is 3 + 4 = ?"))
    ['3', '+', '4']
    """
    if tokens[-len(_RESULT_ONLY) :] == _RESULT_ONLY:
        tokens = tokens[: -len(_RESULT_ONLY)]
    opening = next((words for words in _OPENINGS if tuple(tokens[: len(words)]) == words), ())
    return _inside(tokens, len(opening), endings=_ENDINGS)


def _inside(tokens: list[str], start: int, *, endings: tuple[str, ...]) -> list[str]:
    end = len(tokens)
    while start and start < end and tokens[start] == ":":
        start += 1
    while end > start and tokens[end - 1] in endings:
        end -= 1
    return tokens[start:end]
