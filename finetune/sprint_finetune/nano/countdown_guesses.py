"""Guesses at a Countdown solution: a whole solution in one line, written down before any search.

A search looks at dozens of lines before it finds the solution. A model that has seen many problems can do better: it
writes the solution that looks right, works it out, and compares the value with the target::

    25 - 7 = 18 , 18 * 3 = 54 , 54 * 1 = 54 for 46 no        three operations, then the target and whether it is there
    7 * 3 = 21 , 25 + 21 = 46 , 46 * 1 = 46 for 46 yes

A guess costs twenty tokens, an exploration seventy. Guesses come before the plan, so the planner needs none if one of
them is right, and executors read the guesses that were not.
"""

import itertools
import random
from collections.abc import Sequence

from sprint_finetune.training.calls import Piece

from .countdown_search import OPS, Term, table

_DRAWS = 3
"""How many random expressions a wrong guess is the best of."""


def guess(term: Term, target: int) -> tuple[Piece, ...]:
    r"""Write a term as a guess. Of a wrong one only the verdict is learned, as with every slip.

    >>> made = Term(18, (Term(25), "-", Term(7)))
    >>> "".join(piece.text for piece in guess(Term(21, (made, "+", Term(3))), 21))
    '25 - 7 = 18 , 18 + 3 = 21 for 21 yes\n'
    """
    equations = [f"{step.operation} = {step.value}" for step in term.steps()]
    line = f"{' , '.join(reversed(equations))} for {target}"
    if term.value == target:
        return (Piece(f"{line} yes\n", True),)
    return Piece(line, False), Piece(" no\n", True)


def solve(numbers: Sequence[int], target: int, rng: random.Random) -> Term | None:
    """Return a solution, or None. Each opening that leads to one is equally likely to be its first operation."""
    return _solve([Term(number) for number in numbers], target, rng)


def wrong(numbers: Sequence[int], target: int, rng: random.Random) -> Term:
    """Return an expression over all numbers that misses the target narrowly, as a model's wrong guesses do."""
    drawn: list[Term] = []
    while len(drawn) < _DRAWS:
        if (term := _combine(numbers, rng)) and term.value != target:
            drawn.append(term)
    return min(drawn, key=lambda term: abs(term.value - target))


def _solve(terms: list[Term], target: int, rng: random.Random) -> Term | None:
    if len(terms) == 1:
        return terms[0] if terms[0].value == target else None
    pairs = [*itertools.combinations(range(len(terms)), 2)]
    if len(terms) == 2:
        return next((made for made in table(*terms) if made and made.value == target), None)
    steps = [(pair, op) for pair in pairs for op in range(len(OPS))]
    rng.shuffle(steps)
    for (i, j), op in steps:
        made = table(terms[i], terms[j])[op]
        if made and (found := _solve([made, *_without(terms, i, j)], target, rng)):
            return found
    return None


def _combine(numbers: Sequence[int], rng: random.Random) -> Term | None:
    terms = [Term(number) for number in numbers]
    while len(terms) > 1:
        i, j = rng.sample(range(len(terms)), 2)
        made = rng.choice(table(terms[i], terms[j]))
        if made is None:
            return None
        terms = [made, *_without(terms, i, j)]
    return terms[0]


def _without(terms: Sequence[Term], i: int, j: int) -> list[Term]:
    return [term for index, term in enumerate(terms) if index not in (i, j)]
