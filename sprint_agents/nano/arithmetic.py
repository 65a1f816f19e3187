"""Nested arithmetic: work out an expression with groups in groups.

A task whose answer a program checks: its groups are independent of one another, and what is around them is not.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sprint_agents.manifest import TaskRanges

_LONGEST = 400
"""Characters of an expression; a longer one is not even parsed."""

_TEXT = re.compile(r"\s*(?:arithmetic|compute)[\s:]+(?P<expression>[-+*/\d\s()\[\]{}]+?)\s*\.?\s*", re.IGNORECASE)
_TOKEN = re.compile(r"\s*(\d{1,9}(?!\d)|[-+*/()\[\]{}])", re.ASCII)
_NUMBER = re.compile(r"\s*-?\d{1,400}(?:/\d{1,400})?\s*", re.ASCII)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class Step(NamedTuple):
    """One operation on two values, and what it makes."""

    left: Fraction
    sign: str
    right: Fraction
    value: Fraction

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right} = {self.value}"


@dataclass(frozen=True, slots=True)
class Expression:
    """Numbers and groups, with a sign between each two.

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
            ValueError: ``text`` is no such expression.
        """
        tokens = _TOKEN.findall(text)
        if len(text) > _LONGEST or _TOKEN.sub("", text).strip():
            raise ValueError(f"{text[:80]!r} is no expression of up to {_LONGEST} characters")
        tokens.append("")
        expression = _read(tokens, "")
        return expression if isinstance(expression, Expression) else cls((expression,), ())

    @property
    def levels(self) -> int:
        """How deep groups are nested: 0 where there is none."""
        return max((term.levels + 1 for term in self.terms if isinstance(term, Expression)), default=0)

    def parts(self) -> "Iterator[Expression]":
        """Return all groups, inner ones first, and the whole at last."""
        for term in self.terms:
            if isinstance(term, Expression):
                yield from term.parts()
        yield self

    def steps(self) -> Generator[Step, None, Fraction]:
        """Work it out, groups first, then ``*`` and ``/``, each from left to right; the generator returns the value.

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
            yield Step(left, sign, right, value)
        return values[0]

    def __str__(self) -> str:
        words = [_written(self.terms[0])]
        for sign, term in zip(self.signs, self.terms[1:], strict=True):
            words += [sign, _written(term)]
        return " ".join(words)


class Arithmetic(BaseModel):
    """One expression to work out. Brackets of any kind may be used: ``(…)`` around numbers, ``[…]`` around groups.

    >>> task = Arithmetic.parse("arithmetic (12+7)*(9-4)-18")
    >>> task.prompt
    'Compute (12 + 7) * (9 - 4) - 18.'
    >>> task.check("77"), task.check("78")
    (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[Literal["arithmetic"]] = "arithmetic"
    forms: ClassVar[tuple[str, ...]] = ("arithmetic (12+7)*(9-4)-18", "Compute (12 + 7) * (9 - 4) - 18.")

    expression: str = Field(max_length=_LONGEST)
    """As ``Expression`` writes it."""

    @field_validator("expression")
    @classmethod
    def _canonical(cls, text: str) -> str:
        expression = Expression.parse(text)
        try:
            for _ in expression.steps():
                pass
        except ZeroDivisionError as error:
            raise ValueError(f"{expression} divides by zero") from error
        return str(expression)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read one of ``Arithmetic.forms``; None where ``text`` is something else, or has no value."""
        match = _TEXT.fullmatch(text) if len(text) <= _LONGEST else None
        try:
            return cls(expression=match["expression"]) if match else None
        except ValueError:
            return None

    @property
    def prompt(self) -> str:
        """The problem in the words that the models are trained on."""
        return f"Compute {self.expression}."

    @property
    def parsed(self) -> Expression:
        """The expression with its groups."""
        return Expression.parse(self.expression)

    @property
    def value(self) -> Fraction:
        """The value of the expression."""
        steps = self.parsed.steps()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def check(self, answer: str) -> bool:
        """Whether ``answer`` is the expression's value: a whole number, or a fraction like ``7/2``."""
        if not _NUMBER.fullmatch(answer):
            return False
        try:
            return Fraction(answer.strip()) == self.value
        except ZeroDivisionError:
            return False

    def strays(self, ranges: TaskRanges) -> str | None:
        """Say what a model was trained on, and what here is not of it; None where nothing is, or nothing was said."""
        known = ranges.get(self.name)
        if known is None:
            return None
        whole = self.parsed
        parts = list(whole.parts())
        numbers = [term for part in parts for term in part.terms if isinstance(term, int)]
        measures = (
            ("groups of numbers", known.groups, [sum(1 for part in parts[:-1] if not part.levels)]),
            ("groups of groups", known.outer, [sum(1 for part in parts[:-1] if part.levels)]),
            ("operations in a group", known.operations, [len(part.signs) for part in parts]),
            ("levels of groups", known.levels, [whole.levels]),
            ("as its numbers", known.numbers, numbers),
            ("at every step", known.values, [step.value for step in whole.steps()]),
        )
        for what, (low, high), found in measures:
            if outside := [value for value in found if not low <= value <= high or value.denominator != 1]:
                return f"arithmetic with {low} to {high} {what}, not {', '.join(map(str, outside))}"
        return None


def _read(tokens: list[str], closing: str) -> int | Expression:
    """Take the tokens of one group, and what closes it."""
    terms: list[int | Expression] = []
    signs: list[str] = []
    while True:
        token = tokens.pop(0)
        if token in _CLOSING:
            terms.append(_read(tokens, _CLOSING[token]))
        elif token.isdigit():
            terms.append(int(token))
        else:
            raise ValueError(f"a number or a group is missing before {token or 'the end'!r}")
        token = tokens.pop(0)
        if token == closing:
            return Expression(tuple(terms), tuple(signs)) if signs else terms[0]
        if token not in ("+", "-", "*", "/"):
            raise ValueError(f"a sign or {closing or 'the end'!r} is missing before {token or 'the end'!r}")
        signs.append(token)


def _written(term: int | Expression) -> str:
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
