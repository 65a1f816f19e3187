"""What settles a stage: the executions that make its others unnecessary."""

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .errors import ConfigurationError

Condition = str | re.Pattern[str] | Callable[[Any], bool | Awaitable[bool]]
"""A text that an execution holds, a pattern found in it, or a function of the ``Execution``, which may be async."""


class Settles(BaseModel):
    """An execution that meets the condition settles its stage, and its siblings are cancelled.

    Attributes:
        holds: a text that is part of the execution's text, a regular expression that is found in it, or a function that
            gets each ``Execution`` that succeeded.
        chance: how likely the first execution is to meet it, as far as you know. It decides how many executions run at
            once on an engine whose costs are known (``StepCosts.width``), and falls with each one that does not meet it
            (``chance_after``).
        in_order: wait for the executions that come before in the plan. If one of them meets the condition too, it
            settles the stage instead. So what the planner reads does not depend on which execution was fastest.

    >>> Settles(holds="answer=").found_in("12 + 30 = 42, so answer=12+30")
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    holds: Condition
    chance: float = Field(default=0.25, gt=0, le=1)
    in_order: bool = False

    @field_validator("holds", mode="before")
    @classmethod
    def _not_empty(cls, holds: object) -> object:
        if holds == "":
            raise ValueError("the text is empty, so every execution holds it")
        return holds

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """Show a function by its name, since journals compare the names of policies between processes."""
        for name, value in super().__repr_args__():
            yield str(name), getattr(value, "__name__", type(value)) if callable(value) else value

    @classmethod
    def of(cls, condition: "Settles | Condition") -> Self:
        """Return the rule of a bare condition: the first execution to meet it settles the stage.

        Raises:
            ConfigurationError: the text is empty.
        """
        if condition == "":
            raise ConfigurationError("every execution holds an empty text: name one that only some executions hold")
        return condition if isinstance(condition, cls) else cls(holds=condition)  # type: ignore[arg-type]

    def chance_after(self, missed: int) -> float:
        """Return how likely the next execution is to meet the condition after ``missed`` executions that did not.

        Searches differ, and one whose first executions find nothing is probably hard. So the estimate falls to a half
        after one of them and to a third after two: the mean of a beta distribution that weighs as much as one
        execution.

        >>> [round(Settles(holds="x", chance=0.6).chance_after(missed), 2) for missed in range(4)]
        [0.6, 0.3, 0.2, 0.15]
        """
        return self.chance / (1 + missed)

    def found_in(self, text: str) -> bool:
        """Say whether ``text`` meets a condition that is a text or a pattern."""
        if isinstance(self.holds, str):
            return self.holds in text
        return isinstance(self.holds, re.Pattern) and self.holds.search(text) is not None
