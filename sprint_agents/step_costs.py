"""How long a decode step takes by the number of sequences in it, and how many sequences pay."""

from collections.abc import Mapping
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, field_validator

MOST_AT_ONCE = 64
"""The most executions that are worth considering."""


class StepCosts(BaseModel):
    """The seconds that a decode step takes, by its width: the number of sequences that get a token.

    Between two known widths the cost is on a straight line, and beyond the last one the line continues. Only ratios
    matter, so any unit will do.

    >>> costs = StepCosts(seconds={1: 0.002, 4: 0.004, 12: 0.006})
    >>> costs.at(8), costs.width(chance=0.25)
    (0.005, 6)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    seconds: Mapping[int, float] = Field(min_length=1)

    @field_validator("seconds")
    @classmethod
    def _sorted(cls, seconds: Mapping[int, float]) -> Mapping[int, float]:
        if min(seconds) < 1 or min(seconds.values()) <= 0:
            raise ValueError("widths are 1 or more, and costs are above 0")
        return dict(sorted(seconds.items()))

    def at(self, width: int) -> float:
        """Return the cost of a step of ``width`` sequences."""
        points = [*self.seconds.items()]
        if len(points) == 1 or width <= points[0][0]:
            return points[0][1]
        segments = [*pairwise(points)]
        (left, low), (right, high) = next((one for one in segments if width <= one[1][0]), segments[-1])
        return low + (high - low) * (width - left) / (right - left)

    def width(self, *, chance: float) -> int:
        """Return how many executions to run at once until one of them settles the stage, as each does by ``chance``.

        Of ``w`` at once, one settles the stage with probability ``1 - (1 - chance) ** w``. So the expected number of
        rounds is one divided by that, and each round costs ``at(w)`` a token. The ``w`` with the least product is best,
        of equal ones the widest.

        Example: steps of 1, 4 and 12 cost 2, 4 and 6 ms, and every fourth execution settles its stage. One at a time
        costs 2 / 0.25 = 8 ms a token, six at once 4.5 / 0.82 = 5.5 ms, twelve 6 / 0.97 = 6.2 ms.
        """
        widths = range(MOST_AT_ONCE, 0, -1)
        return min(widths, key=lambda width: self.at(width) / (1 - (1 - chance) ** width))
