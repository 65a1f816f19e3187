"""Intervals and tests, against published and independently computed values."""

import random
import statistics
from math import comb

import pytest

from sprint_finetune.evaluation.intervals import bootstrap, mcnemar, paired_difference, wilson


def test_an_interval_holds_its_share_at_both_ends():
    """The share is inside the interval to the last bit, because a plot cannot draw a negative error bar."""
    for total in range(1, 501):
        assert wilson(0, total)[0] == 0
        assert wilson(total, total)[1] == 1


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe (1998), an example of the paper
        ((0, 0, 0, 10), -0.2775, 0.2775),
        ((10, 0, 0, 0), -0.2775, 0.2775),
    ],
)
def test_paired_differences(table, low, high):
    assert paired_difference(*table) == pytest.approx((low, high), abs=1e-4)


def test_a_paired_difference_turns_round_with_its_methods():
    low, high = paired_difference(50, 9, 4, 37)
    assert paired_difference(50, 4, 9, 37) == pytest.approx((-high, -low))
    assert low < 0.05 < high


@pytest.mark.parametrize(
    ("one", "other", "p"), [(5, 1, 0.21875), (0, 0, 1), (0, 6, 0.03125), (7, 7, 1), (2, 10, 0.0386)]
)
def test_exact_test(one, other, p):
    assert mcnemar(one, other) == pytest.approx(p, abs=5e-5)
    assert mcnemar(other, one) == mcnemar(one, other)


def test_bootstrap_of_a_mean_is_near_the_known_interval():
    source = random.Random(7)
    drawn = [source.gauss(10, 2) for _ in range(200)]
    reach = 1.96 * statistics.pstdev(drawn) / 200**0.5
    low, high = bootstrap(drawn, statistics.fmean)
    assert (low, high) == pytest.approx((statistics.fmean(drawn) - reach, statistics.fmean(drawn) + reach), abs=0.05)


def test_bootstrap_of_a_share_is_near_the_exact_binomial():
    """The resampled count of 20 out of 100 is binomial, whose quantiles are known."""

    def below(count):
        return sum(comb(100, k) * 0.2**k * 0.8 ** (100 - k) for k in range(count + 1))

    exact = [next(k for k in range(101) if below(k) >= share) / 100 for share in (0.025, 0.975)]
    found = bootstrap([1] * 20 + [0] * 80, statistics.fmean, resamples=4000)
    assert found == pytest.approx(exact, abs=0.011)


def test_bootstrap_is_the_same_each_time_and_needs_two_values():
    assert bootstrap([1, 2, 5], sum, seed=3) == bootstrap([1, 2, 5], sum, seed=3)
    assert bootstrap([1], sum) is None
