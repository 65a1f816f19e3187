"""The Countdown numbers game: reach a target with every number used exactly once (arXiv 2506.05745, section 4)."""

from collections import Counter
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from .arithmetic import Expression
from .ranges import TaskRanges
from .scanner import after_keyword, is_number, scan, whole_numbers
from .wordings import countdown_in_words


class Countdown(BaseModel):
    """One Countdown problem: ``numbers`` to combine with ``+ - * /`` into ``target``.

    >>> task = Countdown.parse("countdown 3 7 25 50 79")
    >>> task.prompt
    'Use 50, 25, 7, 3 to make 79.'
    >>> task.check("50+25+(7-3)"), task.check("50+25+4")
    (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: ClassVar[Literal["countdown"]] = "countdown"
    forms: ClassVar[tuple[str, ...]] = ("countdown 3 7 25 50 79", "Use 50, 25, 7, 3 to make 79.")

    numbers: tuple[int, ...] = Field(min_length=2)
    target: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read one of ``Countdown.forms``, or reasoning-gym's words; None if ``text`` is something else."""
        if (worded := countdown_in_words(text)) is not None:
            numbers, target = worded
            return cls(numbers=numbers, target=target) if len(numbers) > 1 else None
        tokens = scan(text)
        if (short := after_keyword(tokens, "countdown")) is not None:
            *numbers, target = whole_numbers(short, without=(",",)) or [0]
            return cls(numbers=tuple(numbers), target=target) if len(numbers) > 1 else None
        match after_keyword(tokens, "use"):
            case [*listed, "to", "make" | "reach", target] if is_number(target):
                numbers = whole_numbers(listed, without=(",", "and")) or []
                return cls(numbers=tuple(numbers), target=int(target)) if len(numbers) > 1 else None
            case _:
                return None

    @property
    def prompt(self) -> str:
        """The problem as the models are trained on it, with the numbers in falling order."""
        ordered = ", ".join(str(number) for number in sorted(self.numbers, reverse=True))
        return f"Use {ordered} to make {self.target}."

    def check(self, answer: str) -> bool:
        """Whether ``answer`` is an expression over exactly these numbers that equals the target."""
        try:
            expression = Expression.parse(answer)
            return expression.value == self.target and Counter(expression.numbers()) == Counter(self.numbers)
        except (ValueError, ZeroDivisionError):
            return False

    def refusal(self, ranges: TaskRanges) -> str | None:
        """Say how the problem differs from those that a model was trained on; None if it does not."""
        known = ranges.countdown
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
