"""Long multiplication: partial products are independent of one another, their sum is not."""

import re
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from .ranges import TaskRanges
from .scanner import after_keyword, is_number, scan, without_question

_NUMBER = re.compile(r"\s*\d{1,40}\s*", re.ASCII)


class Multiplication(BaseModel):
    """Two whole numbers to multiply.

    >>> task = Multiplication.parse("347 × 28 = ?")
    >>> task.prompt
    'Multiply 28 by 347.'
    >>> task.check("9716"), task.check("9,716"), task.check("9717")
    (True, True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: ClassVar[Literal["multiplication"]] = "multiplication"
    forms: ClassVar[tuple[str, ...]] = ("28 * 347", "multiply 28 347", "Multiply 28 by 347.")

    first: int = Field(ge=0)
    second: int = Field(ge=0)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read one of ``Multiplication.forms``; None if ``text`` is something else."""
        tokens = scan(text)
        separators = ("by", "and", ",", "*")
        named = after_keyword(tokens, "multiply")
        if named is None:
            named, separators = after_keyword(tokens, "compute") or without_question(tokens), ("*",)
        elif len(named) == 2:
            named.insert(1, "by")
        match named:
            case [first, separator, second] if separator in separators and is_number(first) and is_number(second):
                return cls(first=int(first), second=int(second))
            case _:
                return None

    @property
    def factors(self) -> tuple[int, int]:
        """The smaller number and the larger one: the larger has a partial product for each of its digits."""
        return min(self.first, self.second), max(self.first, self.second)

    @property
    def prompt(self) -> str:
        """The problem as the models are trained on it, with the smaller number first."""
        small, large = self.factors
        return f"Multiply {small} by {large}."

    def check(self, answer: str) -> bool:
        """Whether ``answer`` is the product; commas between its digits are allowed."""
        digits = answer.replace(",", "")
        return bool(_NUMBER.fullmatch(digits)) and int(digits) == self.first * self.second

    def refusal(self, ranges: TaskRanges) -> str | None:
        """Say how the problem differs from those that a model was trained on; None if it does not."""
        known = ranges.multiplication
        if known is None:
            return None
        small, large = self.factors
        measures = (
            ("a smaller number", known.smaller, small),
            ("a larger number", known.larger, large),
            ("a product", known.products, small * large),
        )
        for measure, (low, high), found in measures:
            if not low <= found <= high:
                return f"multiplication with {measure} from {low} to {high}, not {found}"
        return None
