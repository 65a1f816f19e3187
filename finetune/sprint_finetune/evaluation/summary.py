"""From outcomes to a table: each method on all cases, and on thirds of them by the length of the twin's runs."""

import statistics
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ConfigDict

from .intervals import RESAMPLES, bootstrap, mcnemar, paired_difference, wilson
from .outcomes import Outcome, OutcomeFile

THIRDS = ("shortest third", "middle third", "longest third")


class Row(BaseModel):
    """One method on one set of cases. Shares are from 0 to 1; means and medians are over runs.

    Attributes:
        part: ``all``, or a third of the cases by the length of the twin's run.
        runs: sample size: cases times seeds.
        accuracy: share of correct answers, with the 95 % Wilson interval ``low`` to ``high``. The interval counts each
            case as one sample, because several seeds of one case are not independent.
        unknown: runs whose correctness could not be decided; they count as wrong.
        difference: accuracy minus the twin's, with Newcombe's paired 95 % interval ``difference_low`` to ``…_high``.
        p_value: of McNemar's exact test on the cases that only one of the two solves (with several seeds, that one of
            the two solves more often).
        strict_ratio: strict sequential tokens divided by the twin's on the same runs, as a ratio of sums, with a 95 %
            interval by a bootstrap over cases; None for a single case.
        seconds: median wall time of the timed runs; None without any.
        speed_up: the twin's wall time divided by this method's, median over the timed pairs, with such an interval.
        parallel_share: share of tokens that were written in parallel stages.
        serial_collapse: share of runs without any parallel stage (arXiv 2602.02276).
        spurious_parallelism: share of parallel stages that gained nothing, see ``Outcome``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    part: str
    runs: int
    accuracy: float
    low: float
    high: float
    unknown: int
    failed: int
    sequential_tokens: float
    sequential_tokens_strict: float
    total_tokens: float
    difference: float
    difference_low: float
    difference_high: float
    p_value: float
    strict_ratio: float
    strict_ratio_low: float | None
    strict_ratio_high: float | None
    stages: float
    width: float
    parallel_share: float
    serial_collapse: float
    spurious_parallelism: float
    seconds: float | None
    speed_up: float | None
    speed_up_low: float | None
    speed_up_high: float | None


def summarise(
    out: OutcomeFile, *, twin: str, cases: Container[str] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> list[Row]:
    """Summarise every method against ``twin`` on the runs that both have: on all cases, then on thirds of them.

    ``cases`` are the ids of the cases that count, by default all. Intervals of ratios come from a bootstrap of
    ``resamples`` draws with ``seed``.

    The thirds are ordered by the twin's strict sequential tokens, averaged over the seeds of a case, so a case is in
    the same third for every seed.
    """
    against = out.of(twin)
    by_case: dict[str, list[int]] = {}
    for (case, _), outcome in against.items():
        if cases is None or case in cases:
            by_case.setdefault(case, []).append(outcome.sequential_tokens_strict)
    ordered = sorted(by_case, key=lambda case: statistics.mean(by_case[case]))
    cuts = [round(index * len(ordered) / 3) for index in range(4)]
    parts = {"all": set(ordered)}
    if len(ordered) > 1:
        parts |= {name: set(ordered[cuts[index] : cuts[index + 1]]) for index, name in enumerate(THIRDS)}
    methods = dict.fromkeys(method for method, _, _ in out.outcomes)
    interval = partial(_interval, resamples=resamples, seed=seed)
    return [
        row
        for part, members in parts.items()
        for method in methods
        if (row := _row(out.of(method), against, method=method, part=part, cases=members, interval=interval))
    ]


@dataclass(frozen=True, slots=True)
class _Pair:
    """The runs of one case that the method and its twin both have, in the same order."""

    mine: list[Outcome]
    other: list[Outcome]

    def right(self) -> tuple[float, float, float, float]:
        """Return the shares of runs that both have right, only the method, only the twin, and neither."""
        found = [(a.correct is True, b.correct is True) for a, b in zip(self.mine, self.other, strict=True)]
        both, one, other, neither = (found.count(kind) for kind in _KINDS)
        return both / len(found), one / len(found), other / len(found), neither / len(found)

    def speed_ups(self) -> list[float]:
        """Return the quotients of the wall times, the twin's divided by the method's."""
        both = zip(self.mine, self.other, strict=True)
        return [b.seconds / max(a.seconds, 1e-9) for a, b in both if a.seconds and b.seconds]


_KINDS = ((True, True), (True, False), (False, True), (False, False))


def _row(
    runs: Mapping[tuple[str, int], Outcome],
    twins: Mapping[tuple[str, int], Outcome],
    *,
    method: str,
    part: str,
    cases: set[str],
    interval: Callable[[Sequence[_Pair], Callable[[Sequence[_Pair]], float]], tuple[float | None, float | None]],
) -> Row | None:
    """Summarise the runs of one method on ``cases`` that the twin has too; None without any.

    For example, take two cases with three seeds each. The method solves case a with all seeds and case b with one::

        runs           6
        accuracy       (3 + 1) / 6 = 0.67
        low, high      wilson(0.67 * 2, 2) = 0.16 to 0.95: two independent samples, not six
        strict_ratio   (sum of its 6 runs) / (sum of the twin's 6 runs), so long runs weigh more than short ones
        speed_up       median of the 6 quotients (twin's seconds / own seconds), so one slow run has little effect
    """
    keys = [key for key in runs if key in twins and key[0] in cases]
    if not keys:
        return None
    pairs: dict[str, _Pair] = {}
    for key in keys:
        pair = pairs.setdefault(key[0], _Pair([], []))
        pair.mine.append(runs[key])
        pair.other.append(twins[key])
    paired, mine = [*pairs.values()], [runs[key] for key in keys]
    right = sum(outcome.correct is True for outcome in mine)
    low, high = wilson(right / len(mine) * len(paired), len(paired))
    timed = [pair for pair in paired if pair.speed_ups()]
    ratio_low, ratio_high = interval(paired, _strict_ratio)
    faster_low, faster_high = interval(timed, _speed_up)
    return Row(
        method=method,
        part=part,
        runs=len(mine),
        accuracy=right / len(mine),
        low=low,
        high=high,
        unknown=sum(outcome.correct is None for outcome in mine),
        failed=sum(outcome.error is not None for outcome in mine),
        **_difference(paired),
        sequential_tokens=statistics.mean(outcome.sequential_tokens for outcome in mine),
        sequential_tokens_strict=statistics.mean(outcome.sequential_tokens_strict for outcome in mine),
        total_tokens=statistics.mean(outcome.total_tokens for outcome in mine),
        strict_ratio=_strict_ratio(paired),
        strict_ratio_low=ratio_low,
        strict_ratio_high=ratio_high,
        stages=statistics.mean(outcome.stages for outcome in mine),
        width=statistics.mean(outcome.width for outcome in mine),
        parallel_share=_share(sum(o.parallel_tokens for o in mine), sum(o.total_tokens for o in mine)),
        serial_collapse=_share(sum(not o.parallel_stages for o in mine), len(mine)),
        spurious_parallelism=_share(sum(o.spurious_stages for o in mine), sum(o.parallel_stages for o in mine)),
        seconds=_median([outcome.seconds for outcome in mine if outcome.seconds is not None]),
        speed_up=_speed_up(timed) if timed else None,
        speed_up_low=faster_low,
        speed_up_high=faster_high,
    )


def _difference(pairs: Sequence[_Pair]) -> dict[str, float]:
    """Compare the accuracies; each case is one sample, however many seeds it has."""
    shares = [pair.right() for pair in pairs]
    both, one, other, neither = map(sum, zip(*shares, strict=True))
    low, high = paired_difference(both, one, other, neither)
    better = sum(share[1] > share[2] for share in shares)
    worse = sum(share[1] < share[2] for share in shares)
    return {
        "difference": (one - other) / len(pairs),
        "difference_low": low,
        "difference_high": high,
        "p_value": mcnemar(better, worse),
    }


def _interval(
    pairs: Sequence[_Pair], statistic: Callable[[Sequence[_Pair]], float], *, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    return bootstrap(pairs, statistic, resamples=resamples, seed=seed) or (None, None)


def _strict_ratio(pairs: Sequence[_Pair]) -> float:
    return _share(sum(_strict(pair.mine) for pair in pairs), sum(_strict(pair.other) for pair in pairs))


def _speed_up(pairs: Sequence[_Pair]) -> float:
    return statistics.median(quotient for pair in pairs for quotient in pair.speed_ups())


def _strict(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.sequential_tokens_strict for outcome in outcomes)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
