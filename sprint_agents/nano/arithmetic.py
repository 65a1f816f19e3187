"""Nested arithmetic: an expression with groups in groups.

Groups are independent of one another; the operations around them have to wait for their values.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .ranges import TaskRanges
from .scanner import LONGEST, after_keyword, is_number, scan, without_question

_DEEPEST = 40
"""Levels of brackets; reading and writing an expression is recursive."""

_SHOWN = 5
"""Values that a refusal lists."""

_NUMBER = re.compile(r"\s*-?\d{1,400}(?:/\d{1,400})?\s*", re.ASCII)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class Operation(NamedTuple):
    """One operation on two values, and its result."""

    left: Fraction
    sign: str
    right: Fraction
    value: Fraction

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right} = {self.value}"


@dataclass(frozen=True, slots=True)
class Expression:
    """Numbers and groups with a sign between each two.

    >>> expression = Expression.parse("[(12+7)*2-5]*(9-4)")
    >>> str(expression), expression.levels, [str(part) for part in expression.parts() if not part.levels]
    ('[(12 + 7) * 2 - 5] * (9 - 4)', 2, ['12 + 7', '9 - 4'])
    >>> [str(step) for step in expression.steps()]
    ['12 + 7 = 19', '19 * 2 = 38', '38 - 5 = 33', '9 - 4 = 5', '33 * 5 = 165']
    """

    terms: "tuple[int | Expression, ...]"
    signs: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Expression":
        """Read numbers, ``+ - * /`` and brackets of any kind.

        Raises:
            ValueError: ``text`` is not such an expression, or is too long.
        """
        return cls.read(scan(text))

    @classmethod
    def read(cls, tokens: list[str]) -> "Expression":
        """Read the tokens of an expression.

        Raises:
            ValueError: they are not an expression.
        """
        expression = _read(iter([*tokens, ""]), "", depth=0)
        return expression if isinstance(expression, Expression) else cls((expression,), ())

    @property
    def levels(self) -> int:
        """How deep groups are nested: 0 for an expression without groups."""
        return max((term.levels + 1 for term in self.terms if isinstance(term, Expression)), default=0)

    @property
    def value(self) -> Fraction:
        """The value of the expression.

        Raises:
            ZeroDivisionError: it divides by zero.
        """
        steps = self.steps()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def parts(self) -> "Iterator[Expression]":
        """Return all groups, inner ones first, and the whole expression last."""
        for term in self.terms:
            if isinstance(term, Expression):
                yield from term.parts()
        yield self

    def numbers(self) -> list[int]:
        """Return the numbers of all groups."""
        return [term for part in self.parts() for term in part.terms if isinstance(term, int)]

    def steps(self) -> Generator[Operation, None, Fraction]:
        """Work the expression out: groups first, then ``*`` and ``/``, each from left to right.

        The generator returns the value.

        Raises:
            ZeroDivisionError: it divides by zero.
        """
        values = [Fraction(term) if isinstance(term, int) else Fraction() for term in self.terms]
        for place, term in enumerate(self.terms):
            if isinstance(term, Expression):
                values[place] = yield from term.steps()
        signs = list(self.signs)
        while signs:
            place = next((place for place, sign in enumerate(signs) if sign in "*/"), 0)
            left, right = values[place : place + 2]
            sign = signs.pop(place)
            value = _apply(left, sign, right)
            values[place : place + 2] = [value]
            yield Operation(left, sign, right, value)
        return values[0]

    def __str__(self) -> str:
        words = [_term_text(self.terms[0])]
        for sign, term in zip(self.signs, self.terms[1:], strict=True):
            words += [sign, _term_text(term)]
        return " ".join(words)


class Arithmetic(BaseModel):
    """One expression to work out, with brackets of any kind.

    Its ``expression`` has ``(…)`` around numbers and ``[…]`` around groups.

    >>> task = Arithmetic.parse("What is (12+7)*(9−4)-18?")
    >>> task.prompt
    'Compute (12 + 7) * (9 - 4) - 18.'
    >>> task.check("77"), task.check("78")
    (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: ClassVar[Literal["arithmetic"]] = "arithmetic"
    forms: ClassVar[tuple[str, ...]] = (
        "(12+7)*(9-4)-18",
        "arithmetic (12+7)*(9-4)-18",
        "Compute (12 + 7) * (9 - 4) - 18.",
    )

    expression: str = Field(max_length=LONGEST)
    """As ``str`` writes an ``Expression``."""

    @field_validator("expression")
    @classmethod
    def _canonical(cls, text: str) -> str:
        expression = Expression.parse(text)
        try:
            _ = expression.value
        except ZeroDivisionError as error:
            raise ValueError(f"{expression} divides by zero") from error
        if len(canonical := str(expression)) > LONGEST:
            raise ValueError(f"the expression is longer than {LONGEST} characters")
        return canonical

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read one of ``Arithmetic.forms``; None if ``text`` is something else or has no value."""
        tokens = scan(text)
        named = after_keyword(tokens, "arithmetic", "compute")
        expression = without_question(tokens if named is None else named)
        try:
            return cls(expression=str(Expression.read(expression)))
        except ValueError:
            return None

    @property
    def prompt(self) -> str:
        """The problem as the models are trained on it."""
        return f"Compute {self.expression}."

    @property
    def parsed(self) -> Expression:
        """The expression with its groups."""
        return Expression.parse(self.expression)

    @property
    def value(self) -> Fraction:
        """The value of the expression."""
        return self.parsed.value

    def check(self, answer: str) -> bool:
        """Whether ``answer`` is the expression's value: a whole number, or a fraction like ``7/2``."""
        if not _NUMBER.fullmatch(answer):
            return False
        try:
            return Fraction(answer.strip()) == self.value
        except ZeroDivisionError:
            return False

    def refusal(self, ranges: TaskRanges) -> str | None:
        """Say how the problem differs from those that a model was trained on; None if it does not."""
        known = ranges.arithmetic
        if known is None:
            return None
        whole = self.parsed
        parts = list(whole.parts())
        measures = (
            ("groups of numbers", known.groups, [sum(1 for part in parts[:-1] if not part.levels)]),
            ("groups of groups", known.outer, [sum(1 for part in parts[:-1] if part.levels)]),
            ("operations in a group", known.operations, [len(part.signs) for part in parts]),
            ("levels of groups", known.levels, [whole.levels]),
            ("as its numbers", known.numbers, whole.numbers()),
            ("at every step", known.values, [step.value for step in whole.steps()]),
        )
        for measure, (low, high), found in measures:
            if outside := [value for value in found if not low <= value <= high or value.denominator != 1]:
                listed = ", ".join(map(str, outside[:_SHOWN]))
                return f"arithmetic with {low} to {high} {measure}, not {listed}"
        return None


def _read(tokens: Iterator[str], closing: str, *, depth: int) -> int | Expression:
    """Take the tokens of one group up to ``closing``; a group of one term is that term.

    From ``3 * (4 + 5)`` the outer call takes ``3 * (``, the inner one ``4 + 5 )``, and the outer one the end, ``""``.
    """
    if depth > _DEEPEST:
        raise ValueError(f"brackets are nested more than {_DEEPEST} deep")
    terms: list[int | Expression] = []
    signs: list[str] = []
    while True:
        token = next(tokens)
        if token in _CLOSING:
            terms.append(_read(tokens, _CLOSING[token], depth=depth + 1))
        elif is_number(token):
            terms.append(int(token))
        else:
            raise ValueError(f"a number or a group is missing before {token or 'the end'!r}")
        token = next(tokens)
        if token == closing:
            return Expression(tuple(terms), tuple(signs)) if signs else terms[0]
        if token not in ("+", "-", "*", "/"):
            raise ValueError(f"a sign or {closing or 'the end'!r} is missing before {token or 'the end'!r}")
        signs.append(token)


def _term_text(term: int | Expression) -> str:
    if isinstance(term, int):
        return str(term)
    return f"[{term}]" if term.levels else f"({term})"


def _apply(left: Fraction, sign: str, right: Fraction) -> Fraction:
    match sign:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right
