"""The words in which reasoning-gym (arXiv 2505.24760) puts Countdown problems.

A text is read as a whole or not at all, so nothing that somebody adds to a problem is left out silently. As in
``scanner``, a long text is not read.
"""

import re

from .scanner import LONGEST

_INSTRUCTIONS = """

Final answer format instructions:
1. Provide your solution as a arithmetic expression (no '=' sign).
2. Do not include the target number in the expression.
3. Use '*' for multiplication.
4. Use '/' for division.
5. Do not include any other text or formatting."""

_NUMBERS = r"(?P<numbers>\d{1,18}(?:, \d{1,18}){0,40})"
_TARGET = r"(?P<target>\d{1,18})"
_ONCE = (
    r"(?: (?:you can only use each number once|each number can only be used once"
    r"|each number may be used at most once)\.)?"
)
_FORMS = tuple(
    re.compile(form + r"\." + _ONCE, re.ASCII)
    for form in (
        rf"using all the numbers {_NUMBERS}, create an expression that equals {_TARGET}",
        rf"(?:find a way to make|calculate) {_TARGET} using all of these numbers: {_NUMBERS}",
    )
)


def countdown_in_words(text: str) -> tuple[tuple[int, ...], int] | None:
    """Return the numbers and the target of a problem; None if ``text`` is something else.

    >>> countdown_in_words("Find a way to make 46 using all of these numbers: 25, 7, 3.")
    ((25, 7, 3), 46)
    """
    question = text.strip().removesuffix(_INSTRUCTIONS)
    if len(question) > LONGEST:
        return None
    words = " ".join(question.lower().split())
    found = next((match for form in _FORMS if (match := form.fullmatch(words))), None)
    return found and (tuple(map(int, found["numbers"].split(", "))), int(found["target"]))
