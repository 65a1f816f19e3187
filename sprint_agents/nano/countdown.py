"""The Countdown numbers game: reach a target with every number used exactly once.

A task whose answer a program checks (PAPER: Countdown, 4 numbers).
"""

import ast
import re
from collections import Counter
from fractions import Fraction
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from sprint_agents.manifest import TaskRanges

_SHORT = re.compile(r"\s*countdown[\s:]+(?P<numbers>\d+(?:[\s,]+\d+)+)\s*", re.IGNORECASE)
_SENTENCE = re.compile(
    r"\s*use\s+(?P<numbers>\d+(?:(?:\s*,\s*|\s+and\s+|\s*,\s*and\s+|\s+)\d+)*)"
    r"\s+to\s+(?:make|reach)\s+(?P<target>\d+)\s*\.?\s*",
    re.IGNORECASE,
)


class Countdown(BaseModel):
    """One Countdown problem: ``numbers`` to combine with ``+ - * /`` into ``target``.

    >>> task = Countdown.parse("countdown 3 7 25 50 79")
    >>> task.prompt
    'Use 50, 25, 7, 3 to make 79.'
    >>> task.check("50+25+(7-3)"), task.check("50+25+4")
    (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[Literal["countdown"]] = "countdown"
    forms: ClassVar[tuple[str, ...]] = (
        "countdown 3 7 25 50 79",
        "Use 50, 25, 7, 3 to make 79.",
    )

    numbers: tuple[int, ...] = Field(min_length=2)
    target: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read one of ``Countdown.forms``; None where ``text`` is something else."""
        if match := _SHORT.fullmatch(text):
            *numbers, target = (int(number) for number in re.findall(r"\d+", match["numbers"]))
            return cls(numbers=tuple(numbers), target=target) if len(numbers) > 1 else None
        if match := _SENTENCE.fullmatch(text):
            numbers = [int(number) for number in re.findall(r"\d+", match["numbers"])]
            return cls(numbers=tuple(numbers), target=int(match["target"])) if len(numbers) > 1 else None
        return None

    @property
    def prompt(self) -> str:
        """The problem in the words that the models are trained on, numbers in falling order."""
        ordered = ", ".join(str(number) for number in sorted(self.numbers, reverse=True))
        return f"Use {ordered} to make {self.target}."

    def check(self, answer: str) -> bool:
        """Whether ``answer`` is an expression over exactly these numbers that equals the target."""
        # A longer text is no expression over these numbers; do not even parse it.
        if len(answer) > 16 * (len(self.numbers) + 1):
            return False
        try:
            tree = ast.parse(answer.strip(), mode="eval")
            used: list[int] = []
            value = _evaluate(tree.body, used)
        except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
            return False
        return value == self.target and Counter(used) == Counter(self.numbers)

    def strays(self, ranges: TaskRanges) -> str | None:
        """Say what a model was trained on, and what here is not of it; None where nothing is, or nothing was said."""
        known = ranges.get(self.name)
        if known is None:
            return None
        low, high = known.numbers
        if len(self.numbers) not in known.counts or not all(low <= number <= high for number in self.numbers):
            counts = " or ".join(str(count) for count in known.counts)
            return f"countdown with {counts} numbers from {low} to {high}, not on {', '.join(map(str, self.numbers))}"
        low, high = known.targets
        if not low <= self.target <= high:
            return f"countdown with targets from {low} to {high}, not on {self.target}"
        return None


def _evaluate(node: ast.expr, used: list[int]) -> Fraction:
    match node:
        case ast.Constant(value=bool()):
            raise ValueError("a truth value is no number")
        case ast.Constant(value=int(number)):
            used.append(number)
            return Fraction(number)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _evaluate(left, used), _evaluate(right, used)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
                case _:
                    raise ValueError("only + - * / are allowed")
        case _:
            raise ValueError("only numbers, + - * / and parentheses are allowed")
