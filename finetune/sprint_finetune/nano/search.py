"""Search of Countdown problems, written out step by step.

The search space: combine two numbers into one until one is left; whole positive values up to
``LARGEST``. An *opening* combines the first two numbers; an *exploration* follows one opening to its end.

Every line is a small table that a small model can look up, with one token a word::

    25 - 7 = 18 left 18 3 2 for 46     the opening, the numbers that it leaves, the target
     18 3 : 21 15 54 6                 two of them: sum, difference, product, quotient (x: none of use)
     21 2 : 23 19 42 x 46 no           one of these and the last number: the same four, the target, is it there?
     …
     44 2 : 46 42 88 22 46 yes
    found 46 = 44 + 2 , 44 = …         from the target back to the opening
    answer=((…)+…)+2

The order is fixed, so that a model can learn it: the numbers fall, pairs in order, then ``+ - * /``.

Signs without spaces, and the numbers beside them, stand in answers alone. They are tokens of their own, so a planner
that copies the answer from a thousand tokens before has nothing to mistake for it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

LARGEST = 200
"""Largest intermediate value, and the largest number that is one token."""

Op = Literal["+", "-", "*", "/"]
OPS: tuple[Op, ...] = get_args(Op)

NO_VALUE = "x"
"""Stands in a table for a value that is too large, not whole, not positive, or there already."""


@dataclass(frozen=True, slots=True)
class Term:
    """A value and how it was made: of the problem's own numbers, or of two other terms."""

    value: int
    made_of: "tuple[Term, Op, Term] | None" = None

    @property
    def expression(self) -> str:
        """The value over the problem's own numbers."""
        if self.made_of is None:
            return str(self.value)
        a, op, b = self.made_of
        return f"{a._inside()}{op}{b._inside()}"

    @property
    def equation(self) -> str:
        """The last step that made the value, right to left."""
        if self.made_of is None:
            raise ValueError(f"{self.value} is a number of the problem: nothing made it")
        a, op, b = self.made_of
        return f"{self.value} = {a.value} {op} {b.value}"

    def steps(self) -> "Iterator[Term]":
        """Return this term, if it was made, and those that it was made of."""
        if self.made_of:
            yield self
            for part in (self.made_of[0], self.made_of[2]):
                yield from part.steps()

    def _inside(self) -> str:
        return f"({self.expression})" if self.made_of else self.expression


@dataclass(frozen=True, slots=True)
class Exploration:
    """One opening followed to its end: what an executor writes, and the solution if it met one."""

    opening: str
    text: str
    found: str | None


def table(a: Term, b: Term) -> list[Term | None]:
    """Combine two terms by each of ``OPS``, the larger one first; None where no value is of use.

    >>> [made and made.value for made in table(Term(3), Term(18))]
    [21, 15, 54, 6]
    >>> [made and made.value for made in table(Term(4), Term(2))]  # 4 - 2 is there already, and so is no new quotient
    [6, 2, 8, None]
    """
    a, b = (a, b) if a.value >= b.value else (b, a)
    values = (
        a.value + b.value,
        a.value - b.value,
        a.value * b.value,
        a.value // b.value if b.value > 1 and a.value % b.value == 0 else 0,
    )
    return [
        Term(value, (a, op, b)) if 0 < value <= LARGEST and value not in values[:index] else None
        for index, (op, value) in enumerate(zip(OPS, values, strict=True))
    ]


def openings(numbers: tuple[int, ...], ops: str) -> list[tuple[int, Op, int]]:
    """List the first steps that use one of ``ops``, as (index, op, index) into ``numbers``; equal steps once.

    Whether a step has a value of use is for who follows it: a plan of all pairs is written without reckoning.
    """
    steps: dict[tuple[int, Op, int], tuple[int, Op, int]] = {}
    for i, j in itertools.combinations(range(len(numbers)), 2):
        for op in OPS:
            if op in ops:
                steps.setdefault((numbers[i], op, numbers[j]), (i, op, j))
    return list(steps.values())


def explore(numbers: tuple[int, ...], step: tuple[int, Op, int], target: int) -> Exploration:
    """Follow the opening ``step`` of 3 or 4 falling ``numbers`` until it meets the target or ends with ``none``."""
    i, op, j = step
    made = table(Term(numbers[i]), Term(numbers[j]))[OPS.index(op)]
    if len(numbers) not in (3, 4):
        raise ValueError(f"an exploration follows an opening of 3 or 4 numbers, not of {numbers}")
    opening = f"{numbers[i]} {op} {numbers[j]}"
    if made is None:
        return Exploration(opening, f"{opening} = {NO_VALUE}\nnone\n", None)
    rest = [made, *(Term(number) for k, number in enumerate(numbers) if k not in (i, j))]
    left = " ".join(str(term.value) for term in rest)
    lines = [f"{opening} = {made.value} left {left} for {target}"]
    found = _explore(rest, target, lines)
    if found:
        lines.append(f"found {' , '.join(term.equation for term in found.steps())}")
    lines.append(f"answer={found.expression}" if found else "none")
    return Exploration(opening, "\n".join(lines) + "\n", found.expression if found else None)


def _explore(rest: list[Term], target: int, lines: list[str]) -> Term | None:
    if len(rest) == 2:
        return _last(rest[0], rest[1], target, lines)
    for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        values = table(rest[i], rest[j])
        lines.append(_row(rest[i], rest[j], values))
        for made in values:
            if made and (found := _last(made, rest[k], target, lines)):
                return found
    return None


def _last(a: Term, b: Term, target: int, lines: list[str]) -> Term | None:
    values = table(a, b)
    found = next((made for made in values if made and made.value == target), None)
    lines.append(f"{_row(a, b, values)} {target} {'yes' if found else 'no'}")
    return found


def _row(a: Term, b: Term, values: list[Term | None]) -> str:
    return f" {a.value} {b.value} : {' '.join(str(made.value) if made else NO_VALUE for made in values)}"
