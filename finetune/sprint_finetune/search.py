"""Search of Countdown problems, written out step by step.

The search space: combine two numbers into one until one is left; whole positive values up to
``LARGEST``. An *opening* combines the first two numbers; an *exploration* follows one opening to its end:
every way to combine two of the remaining numbers, and for the last two only the operations that can
still reach the target (a sum or product above them, a difference or quotient below).

The order is fixed, so that a model can learn it: numbers fall, pairs and ``+ - * /`` in order.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

LARGEST = 200
"""Largest intermediate value, and the largest number that is one token."""

_LARGEST_CHECKED_PRODUCT = 100


@dataclass(frozen=True, slots=True)
class Term:
    """A value and the expression over the problem's own numbers that makes it."""

    value: int
    expression: str
    compound: bool = False

    def inside(self) -> str:
        """Write the expression as it stands inside a larger one."""
        return f"({self.expression})" if self.compound else self.expression


@dataclass(frozen=True, slots=True)
class Exploration:
    """One opening followed to its end: what an executor writes, and the solution if it met one."""

    opening: str
    text: str
    found: str | None


def combine(a: Term, op: str, b: Term) -> Term:
    """Compute ``a op b``; the caller has checked that the value is whole and positive."""
    value = {"+": a.value + b.value, "-": a.value - b.value, "*": a.value * b.value, "/": a.value // b.value}[op]
    return Term(value, f"{a.inside()}{op}{b.inside()}", compound=True)


def operations(a: int, b: int) -> Iterator[str]:
    """Return the operations worth trying on ``a >= b``."""
    if a + b <= LARGEST:
        yield "+"
    if a > b:
        yield "-"
    if a * b <= LARGEST:
        yield "*"
    if b > 1 and a % b == 0:
        yield "/"


def final_operations(a: int, b: int, target: int) -> Iterator[str]:
    """Return the operations on the last two numbers, ``a >= b``, that can still reach the target."""
    if target > a:
        yield "+"
        if b > 1 and a * b <= _LARGEST_CHECKED_PRODUCT:
            yield "*"
    elif target == a and b == 1:
        yield "*"
    else:
        if a > b:
            yield "-"
        if b > 1 and a % b == 0:
            yield "/"


def openings(numbers: tuple[int, ...], ops: str) -> list[tuple[int, str, int]]:
    """List the first steps that use one of ``ops``, as (index, op, index) into ``numbers``; equal steps once."""
    seen: set[tuple[int, str, int]] = set()
    steps: list[tuple[int, str, int]] = []
    for i, j in itertools.combinations(range(len(numbers)), 2):
        for op in operations(numbers[i], numbers[j]):
            step = (numbers[i], op, numbers[j])
            if op in ops and step not in seen:
                seen.add(step)
                steps.append((i, op, j))
    return steps


def explore(numbers: tuple[int, ...], step: tuple[int, str, int], target: int) -> Exploration:
    """Follow the opening ``step`` until it meets the target or ends with ``none``."""
    i, op, j = step
    terms = [Term(number, str(number)) for number in numbers]
    made = combine(terms[i], op, terms[j])
    rest = _falling([made, *(term for k, term in enumerate(terms) if k not in (i, j))])
    opening = f"{numbers[i]}{op}{numbers[j]}"
    lines = [f"{opening}={made.value} left {','.join(str(term.value) for term in rest)}"]
    found = _explore(rest, target, lines)
    lines.append(f"found {found.expression}" if found else "none")
    return Exploration(opening, "\n".join(lines) + "\n", found.expression if found else None)


def _explore(rest: list[Term], target: int, lines: list[str]) -> Term | None:
    if len(rest) == 2:
        checks, found = _final(rest[0], rest[1], target)
        lines.append(",".join(checks))
        return found
    if len(rest) > 3:
        raise ValueError(
            f"an exploration leaves 2 or 3 numbers after its opening, not {len(rest)}: use problems of 3 or 4"
        )
    for i, j in ((0, 1), (0, 2), (1, 2)):
        a, b, (other,) = rest[i], rest[j], [rest[k] for k in range(3) if k not in (i, j)]
        for op in operations(a.value, b.value):
            made = combine(a, op, b)
            last = _falling([made, other])
            checks, found = _final(last[0], last[1], target)
            lines.append(",".join([f"{a.value}{op}{b.value}={made.value}", *checks]))
            if found:
                return found
    return None


def _final(a: Term, b: Term, target: int) -> tuple[list[str], Term | None]:
    checks: list[str] = []
    for op in final_operations(a.value, b.value, target):
        made = combine(a, op, b)
        checks.append(f"{a.value}{op}{b.value}={made.value}")
        if made.value == target:
            return checks, made
    return checks, None


def _falling(terms: list[Term]) -> list[Term]:
    return sorted(terms, key=lambda term: -term.value)
