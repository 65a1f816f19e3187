"""95 % intervals, and a test, of shares and of paired differences and ratios."""

import random
from collections.abc import Callable, Sequence
from math import comb, sqrt
from typing import NamedTuple, TypeVar

T = TypeVar("T")

RESAMPLES = 2_000
"""Of a bootstrap."""

_Z = 1.96


class ConfidenceInterval(NamedTuple):
    """A range with both ends."""

    low: float
    high: float


def wilson(right: float, total: int) -> ConfidenceInterval:
    """Return the interval of a share (Wilson, 1927). It contains the share despite rounding at 0 and 1.

    >>> [round(bound, 3) for bound in wilson(9, 10)]
    [0.596, 0.982]
    """
    share = right / total
    middle = (share + _Z * _Z / (2 * total)) / (1 + _Z * _Z / total)
    reach = _Z * sqrt(share * (1 - share) / total + _Z * _Z / (4 * total * total)) / (1 + _Z * _Z / total)
    return ConfidenceInterval(max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach)))


def paired_difference(both: float, only_one: float, only_other: float, neither: float) -> ConfidenceInterval:
    """Return the interval of a difference of two shares of the same cases (Newcombe, 1998, method 10).

    Unlike a bootstrap it is not empty if the two agree on all cases. The arguments count cases that both have right,
    only the first, only the second, and neither; they may be fractions.

    >>> [round(bound, 4) for bound in paired_difference(36, 12, 2, 0)]
    [0.0569, 0.3404]
    """
    total = both + only_one + only_other + neither
    one, other = both + only_one, both + only_other
    (low_one, high_one), (low_other, high_other) = wilson(one, round(total)), wilson(other, round(total))
    product = one * other * (total - one) * (total - other)
    agreement = both * neither - only_one * only_other
    corrected = max(agreement - total / 2, 0) if agreement > 0 else agreement
    correlation = corrected / sqrt(product) if product > 0 else 0.0
    below, above = one / total - low_one, high_other - other / total
    under, over = other / total - low_other, high_one - one / total
    difference = (only_one - only_other) / total
    return ConfidenceInterval(
        difference - sqrt(max(0.0, below**2 - 2 * correlation * below * above + above**2)),
        difference + sqrt(max(0.0, under**2 - 2 * correlation * under * over + over**2)),
    )


def mcnemar(only_one: int, only_other: int) -> float:
    """Return the two-sided p-value of McNemar's exact test on the cases that only one of two methods has right.

    >>> mcnemar(5, 1), mcnemar(0, 0)
    (0.21875, 1.0)
    """
    total, fewer = only_one + only_other, min(only_one, only_other)
    return min(1.0, 2 * sum(comb(total, count) for count in range(fewer + 1)) / 2**total)


def bootstrap(
    values: Sequence[T], statistic: Callable[[Sequence[T]], float], *, resamples: int = RESAMPLES, seed: int = 0
) -> ConfidenceInterval | None:
    """Return the percentile interval of a statistic of independent values; None for fewer than two.

    >>> bootstrap([1.0, 2.0, 3.0, 4.0], lambda drawn: sum(drawn) / len(drawn))
    ConfidenceInterval(low=1.5, high=3.5)
    """
    if len(values) < 2:
        return None
    draw = random.Random(seed)
    found = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(resamples))
    outside = int(0.025 * resamples)
    return ConfidenceInterval(found[outside], found[-outside - 1])
