"""Long multiplication: the product of two whole numbers.

A task whose answer a program checks: its partial products are independent of one another, their sum is not.
"""

import re
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from sprint_agents.manifest import TaskRanges

_TEXT = re.compile(
    r"\s*multiply[\s:]+(?P<first>\d{1,18})(?:\s+(?:by|and)\s+|\s*[,*x×]\s*|\s+)(?P<second>\d{1,18})\s*\.?\s*",  # noqa: RUF001
    re.IGNORECASE | re.ASCII,
)
_NUMBER = re.compile(r"\s*\d{1,40}\s*", re.ASCII)


class Multiplication(BaseModel):
    """Two whole numbers to multiply.

    >>> task = Multiplication.parse("multiply 347 28")
    >>> task.prompt
    'Multiply 28 by 347.'
    >>> task.check("9716"), task.check("9,716"), task.check("9717")
    (True, True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[Literal["multiplication"]] = "multiplication"
    forms: ClassVar[tuple[str, ...]] = ("multiply 28 347", "Multiply 28 by 347.")

    first: int = Field(ge=0)
    second: int = Field(ge=0)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read one of ``Multiplication.forms``; None where ``text`` is something else."""
        match = _TEXT.fullmatch(text)
        return cls(first=int(match["first"]), second=int(match["second"])) if match else None

    @property
    def factors(self) -> tuple[int, int]:
        """The smaller number and the larger one: the larger has a partial product for each of its digits."""
        return min(self.first, self.second), max(self.first, self.second)

    @property
    def prompt(self) -> str:
        """The problem in the words that the models are trained on, the smaller number first."""
        small, large = self.factors
        return f"Multiply {small} by {large}."

    def check(self, answer: str) -> bool:
        """Whether ``answer`` is the product; commas between its digits are allowed."""
        digits = answer.replace(",", "")
        return bool(_NUMBER.fullmatch(digits)) and int(digits) == self.first * self.second

    def strays(self, ranges: TaskRanges) -> str | None:
        """Say what a model was trained on, and what here is not of it; None where nothing is, or nothing was said."""
        known = ranges.get(self.name)
        if known is None:
            return None
        small, large = self.factors
        measures = (
            ("a smaller number", known.smaller, small),
            ("a larger number", known.larger, large),
            ("a product", known.products, small * large),
        )
        for what, (low, high), found in measures:
            if not low <= found <= high:
                return f"multiplication with {what} from {low} to {high}, not {found}"
        return None
