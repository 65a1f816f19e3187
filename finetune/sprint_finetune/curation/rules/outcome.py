r"""Which lines of a trace state its answer, in one of the ways to write it: ``\frac{5}{9}``, ``5/9``, ``six``."""

import re
from collections.abc import Sequence

from sprint_agents.dialects.completions import boxed

from .facts import values_in
from .mentions import plain_powers

_READ = 600
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORD_OF = {str(number): word for number, word in enumerate(_WORDS)}
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}\s*\{([^{}]*)\}|(\d)\s*(\d))")
_ROOT = re.compile(r"\\?sqrt\s*(?:\{([^{}]*)\}|\(([^()]*)\))")
_DROPPED = re.compile(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}")
_SIGNS = re.compile(r"\\(?:left|right|!|,|;|\(|\)|\[|\]|\$)|\^\{?\\circ\}?|[${}]|\\%|%|\u00b0|(?<=\d),(?=\d{3})")
_OPERATION = re.compile(
    r"[\w)}\u00b2\u00b3]\s*[+*^\u00d7\u00f7\u00b7\u2212]\s*[\w({\\\u221a]|[\w)}]\s+-\s*[\w({\\\u221a]|"
    r"\\(?:cdot|times|div|sqrt)|\w\(\d+, ?\d+\)|"
    r"\b(?:minus|plus|add(?:ing|ed)?|subtract\w*|times|divid\w+|multipl\w+|squared|cubed)\b",
    re.IGNORECASE,
)
_QUOTIENT = re.compile(r"[\w)}]\s*/\s*[\w({]|frac")
_EQUALITY = re.compile(r"[=\u2248\u2261]")
_QUANTITY = re.compile(r"(?P<number>-?\d+(?:\.\d+)?)(?:\s*[a-z]{2,}(?: [a-z]+)?)?")
_PLAIN = {"\\pi": "\u03c0", "\\infty": "\u221e", "\\cup": "\u222a", "\u2212": "-", "\\": ""}
_SET = re.compile(r"[a-z]=(?P<value>[^=,]+)")
"""An answer that says what a variable is."""
_LETTER = re.compile(r"\(?[A-J]\)?")


def answer_in(lines: Sequence[str]) -> str | None:
    r"""Return what the last ``\boxed`` of some lines holds, or None."""
    return next((found for line in reversed(lines) if (found := boxed(line)) is not None), None)


def states_answer(lines: Sequence[str], answer: str) -> list[bool]:
    r"""Tell which lines state an answer.

    >>> states_answer(["We get 5 / 9.", "So 4 + 2 = 6."], r"\frac{5}{9}"), states_answer(["So 4 + 2 = 6."], "6")
    ([True, False], [True])
    """
    wanted = _wanted(answer)
    if not wanted:
        return [False] * len(lines)
    if number := _number(wanted):
        wanted = number
        word = _WORD_OF.get(wanted)
        spelled = re.compile(
            rf"\b(?:is|are|get|gives?|to|so|that's|there're|exactly|only)\b(?: \w+){{0,2}}? {word}\b", re.IGNORECASE
        )
        positive = wanted.lstrip("-")
        return [
            any(value == positive and role != "used" for value, role in values_in(line[:_READ]))
            or (word is not None and spelled.search(line[:_READ]) is not None)
            for line in lines
        ]
    if _LETTER.fullmatch(wanted):
        pattern = re.compile(
            rf"\b(?:option|choice|answer(?: \w+)* is|answer:)\s*\W*{wanted.strip('()')}\b", re.IGNORECASE
        )
        return [pattern.search(line[:_READ]) is not None for line in lines]
    before = r"(?<![\d.)])" if wanted.startswith("-") else r"(?<![\w.])"
    whole = re.compile(rf"{before}{re.escape(wanted)}(?!\w)")
    return [whole.search(_normal(line[:_READ])) is not None for line in lines]


def names_answer(lines: Sequence[str], answer: str) -> list[bool]:
    """Tell which lines have the number that is the answer, even if they do not state it as a result."""
    number = _number(_wanted(answer))
    if number is None:
        return [False] * len(lines)
    return [any(value == number.lstrip("-") for value, _ in values_in(line[:_READ])) for line in lines]


def is_in_words(answer: str) -> bool:
    """Tell whether an answer is a word or the letter of a choice, so that texts mention it without deriving it."""
    wanted = _wanted(answer)
    return not re.search(r"\d|\u221a|\u03c0|[-+*/^=]", wanted)


def derives(text: Sequence[str], stated: Sequence[bool]) -> bool:
    """Tell whether lines work out the answer. ``stated`` tells which of them state it.

    A line works it out if it has an operation, or follows one that has: "Therefore, n = 8." alone derives nothing.

    >>> derives(["3x = 24, so x = 24/3.", "So x = 8."], [False, True]), derives(["Hence n must be 8."], [True])
    (True, False)
    """
    return any(
        stated[index] and any(operates(line) for line in text[max(0, index - 1) : index + 1])
        for index in range(len(text))
    )


def operates(line: str) -> bool:
    """Tell whether a line has an operation on numbers or symbols, in signs or in words."""
    equation = _EQUALITY.search(line) is not None
    return _OPERATION.search(line) is not None or (equation and _QUOTIENT.search(line) is not None)


def _wanted(answer: str) -> str:
    """Return the answer in one way of writing, without the variable that it is the value of."""
    text = _normal(answer)
    match = _SET.fullmatch(text)
    return match["value"] if match else text


def _number(answer: str) -> str | None:
    """Return the number of an answer, without its unit, or None if it is more than a number."""
    match = _QUANTITY.fullmatch(answer)
    return match["number"] if match else None


def _normal(text: str) -> str:
    text = _DROPPED.sub(r"\1", text)
    text = _FRACTION.sub(lambda match: f" {match[1] or match[3]}/{match[2] or match[4]}", text)
    text = _ROOT.sub(lambda match: f"\u221a{match[1] or match[2]}", text)
    text = plain_powers(_SIGNS.sub("", text))
    for sign, plain in _PLAIN.items():
        text = text.replace(sign, plain)
    return " ".join(re.sub(r"(?<!\s)\s*([-+*/^=(),\u221a\u03c0])\s*", r"\1", text).casefold().split()).strip(". ")
