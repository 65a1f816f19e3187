"""Grade an answer to a problem: the same decision in curation, in evaluation and on the command line."""

from typing import Literal, NamedTuple

from sprint_agents.nano.tasks import recognise

from .letters import choice_letter, is_letter, letter_and_text, options_of
from .notation import plain
from .stated import stated_in
from .verifier import Verifier

By = Literal["task", "text", "letter", "math-verify"]
"""The check that decided: the program of a built-in task, equal texts, a letter of multiple choice, or the value."""


class Grade(NamedTuple):
    """Whether an answer is right, None if that could not be decided, and which check decided."""

    right: bool | None
    by: By


async def grade(problem: str, *, reference: str | None, stated: str, verifier: Verifier) -> Grade:
    """Grade the answer ``stated``.

    A program checks the answers of the built-in tasks. Any other answer is compared with the reference: a letter with
    a letter, or with the option that it names if the problem lists them, a text with a text, else by value.
    """
    same_text = reference is not None and same_words(reference, stated)
    task = recognise(problem)
    if task is not None:
        if task.check(stated):
            return Grade(True, "task")
        # A reference such as "no solution found" states that there is no solution, so compare it as text.
        if same_text and reference is not None and not any(sign.isdigit() for sign in reference):
            return Grade(True, "text")
        return Grade(False, "task")
    if reference is None:
        return Grade(None, "text")
    if same_text:
        return Grade(True, "text")
    if (of_choice := await _choice(problem, reference, stated, verifier)) is not None:
        return Grade(of_choice, "letter")
    return Grade(await verifier.equal(reference, stated), "math-verify")


async def grade_text(problem: str, *, reference: str | None, text: str, verifier: Verifier) -> bool | None:
    """Grade the answer that a text states, or the whole text if it states none."""
    stated = stated_in(text, letters=reference is not None and is_letter(reference)) or text
    return (await grade(problem, reference=reference, stated=stated, verifier=verifier)).right


def same_words(reference: str, stated: str) -> bool:
    """Compare two answers as texts, without dollar signs, spacing and the full stop.

    >>> same_words("$No solution$", "no  solution."), same_words("12", "1 2"), same_words(".5", "5")
    (True, False, False)
    """
    one, other = plain(reference), plain(stated)
    prose = not any(sign.isdigit() or sign in "\\\\^_=" for sign in one) and len(one) > 3
    return bool(one) and (one == other or (prose and one.casefold() == other.casefold()))


async def _choice(problem: str, reference: str, stated: str, verifier: Verifier) -> bool | None:
    """Grade a problem of multiple choice; None if it is none."""
    letter = choice_letter(stated)
    if is_letter(reference):
        right = choice_letter(reference)
        if letter is not None:
            return letter == right
        options = options_of(problem)
        if not options or right not in options or not await verifier.equal(options[right], stated):
            return False
        others = [text for name, text in options.items() if name != right]
        return True not in [await verifier.equal(text, stated) for text in others]
    if option := letter_and_text(reference):
        return letter == option[0] if letter is not None else await verifier.equal(option[1], stated)
    options = options_of(problem) if letter else {}
    if letter is None or letter not in options or len(stated.split()) > 2:
        return None
    return await verifier.equal(reference, options[letter])
