"""The search for a Countdown solution, written out step by step.

The search space: combine two numbers into one until a single number is left. All values are whole, positive and at
most ``LARGEST``. An *opening* combines the first two numbers. An *exploration* follows one opening to its end.

Every line is a small table that a small model can look up, with one token per word::

    25 - 7 = 18 left 18 3 2 for 46     the opening, the numbers it leaves, the target
     18 3 : 21 15 54 6                 two of them: sum, difference, product, quotient (x: not useful)
     21 2 : 23 19 42 x 46 no           a result and the last number: the same table, the target, whether it is there
     …
     44 2 : 46 42 88 22 46 yes
    found 46 = 44 + 2 , 44 = …         from the target back to the opening
    answer=((…)+…)+2

The order is fixed, so that a model can learn it: numbers in descending order, pairs in order, then ``+ - * /``.

Only answers contain signs without spaces, and the numbers beside them. They are separate tokens, so a planner that
copies the answer across a thousand tokens cannot confuse it with anything else.
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
"""Replaces a table value that is too large, not whole, not positive, or a repetition."""


@dataclass(frozen=True, slots=True)
class Term:
    """A value and its origin: a number of the problem, or an operation on two other terms."""

    value: int
    made_of: "tuple[Term, Op, Term] | None" = None

    @property
    def expression(self) -> str:
        """The value as an expression over the problem's own numbers."""
        if self.made_of is None:
            return str(self.value)
        a, op, b = self.made_of
        return f"{a._inside()}{op}{b._inside()}"

    @property
    def operation(self) -> str:
        """The operation that made the value."""
        if self.made_of is None:
            raise ValueError(f"{self.value} is a number of the problem, so no operation made it")
        a, op, b = self.made_of
        return f"{a.value} {op} {b.value}"

    def steps(self) -> "Iterator[Term]":
        """Yield this term, if it was computed, and then the computed terms that it was made of."""
        if self.made_of:
            yield self
            for part in (self.made_of[0], self.made_of[2]):
                yield from part.steps()

    def _inside(self) -> str:
        return f"({self.expression})" if self.made_of else self.expression


@dataclass(frozen=True, slots=True)
class Exploration:
    """One opening followed to its end: the executor's text, and the solution if there is one."""

    opening: str
    text: str
    found: str | None


def table(a: Term, b: Term) -> list[Term | None]:
    """Combine two terms with each of ``OPS``, the larger one first. None means that the value is not useful.

    >>> [made and made.value for made in table(Term(3), Term(18))]
    [21, 15, 54, 6]
    >>> [made and made.value for made in table(Term(4), Term(2))]  # 4 / 2 repeats the 2 of 4 - 2
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
    """List the first steps that use one of ``ops``, as (index, op, index) into ``numbers``. Equal steps appear once.

    A step is listed even if its value is not useful: a planner writes all pairs without calculating.
    """
    steps: dict[tuple[int, Op, int], tuple[int, Op, int]] = {}
    for i, j in itertools.combinations(range(len(numbers)), 2):
        for op in OPS:
            if op in ops:
                steps.setdefault((numbers[i], op, numbers[j]), (i, op, j))
    return list(steps.values())


def explore(numbers: tuple[int, ...], step: tuple[int, Op, int], target: int) -> Exploration:
    """Follow the opening ``step`` of 3 or 4 descending ``numbers`` to the target, or until it ends with ``none``."""
    i, op, j = step
    made = table(Term(numbers[i]), Term(numbers[j]))[OPS.index(op)]
    if len(numbers) not in (3, 4):
        raise ValueError(f"an exploration needs 3 or 4 numbers, not {numbers}")
    opening = f"{numbers[i]} {op} {numbers[j]}"
    if made is None:
        return Exploration(opening, f"{opening} = {NO_VALUE}\nnone\n", None)
    rest = [made, *(Term(number) for k, number in enumerate(numbers) if k not in (i, j))]
    left = " ".join(str(term.value) for term in rest)
    lines = [f"{opening} = {made.value} left {left} for {target}"]
    found = _explore(rest, target, lines)
    if found:
        lines.append(f"found {' , '.join(f'{term.value} = {term.operation}' for term in found.steps())}")
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
