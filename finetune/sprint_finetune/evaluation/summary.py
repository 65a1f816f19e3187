"""From outcomes to a table: each method on all cases, and on thirds of them by the length of the twin's runs."""

import itertools
import random
import statistics
from collections.abc import Container, Mapping, Sequence
from math import sqrt

from pydantic import BaseModel, ConfigDict

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
        strict_ratio: strict sequential tokens divided by the twin's on the same runs, as a ratio of sums.
        seconds: median wall time of the timed runs; None without any.
        speed_up: the twin's wall time divided by this method's, median over the timed pairs, with the 95 % bootstrap
            interval ``speed_up_low`` to ``speed_up_high``, which draws cases, because several seeds of one case are
            not independent.
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
    strict_ratio: float
    stages: float
    width: float
    parallel_share: float
    serial_collapse: float
    spurious_parallelism: float
    seconds: float | None
    speed_up: float | None
    speed_up_low: float | None
    speed_up_high: float | None


def wilson(right: float, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927). It contains the share despite rounding at 0 and 1.

    >>> [round(bound, 3) for bound in wilson(9, 10)]
    [0.596, 0.982]
    """
    z, share = 1.96, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach))


def median_interval(groups: Sequence[Sequence[float]], *, draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % interval of the median of all values, by drawing whole groups with replacement (bootstrap).

    >>> median_interval([[1.0], [2.0], [3.0], [4.0], [5.0]])
    (1.0, 5.0)
    """
    rng = random.Random(0)
    medians = sorted(
        statistics.median(itertools.chain.from_iterable(rng.choices(groups, k=len(groups)))) for _ in range(draws)
    )
    cut = round(0.025 * draws)
    return medians[cut], medians[-1 - cut]


def summarise(out: OutcomeFile, *, twin: str, cases: Container[str] | None = None) -> list[Row]:
    """Summarise every method against ``twin`` on the runs that both have: on all cases, then on thirds of them.

    The thirds are ordered by the twin's strict sequential tokens, averaged over the seeds of a case, so a case is in
    the same third for every seed. ``cases`` are the ids of the cases that count, by default all.
    """
    against = out.of(twin)
    by_case: dict[str, list[int]] = {}
    for (case, _), outcome in against.items():
        if cases is None or case in cases:
            by_case.setdefault(case, []).append(outcome.sequential_tokens_strict)
    ordered = sorted(by_case, key=lambda case: statistics.mean(by_case[case]))
    cuts = [round(index * len(ordered) / 3) for index in range(4)]
    parts = {"all": set(ordered)}
    parts |= {name: set(ordered[cuts[index] : cuts[index + 1]]) for index, name in enumerate(THIRDS)}
    methods = dict.fromkeys(method for method, _, _ in out.outcomes)
    return [
        row
        for part, members in parts.items()
        for method in methods
        if (row := _row(out.of(method), against, method=method, part=part, cases=members))
    ]


def _row(
    runs: Mapping[tuple[str, int], Outcome],
    twins: Mapping[tuple[str, int], Outcome],
    *,
    method: str,
    part: str,
    cases: set[str],
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
    mine, other = [runs[key] for key in keys], [twins[key] for key in keys]
    right = sum(outcome.correct is True for outcome in mine)
    distinct = len({case for case, _ in keys})
    low, high = wilson(right / len(mine) * distinct, distinct)
    speed_ups = _speed_ups(keys, runs, twins)
    speed_up_low, speed_up_high = median_interval(speed_ups) if speed_ups else (None, None)
    return Row(
        method=method,
        part=part,
        runs=len(mine),
        accuracy=right / len(mine),
        low=low,
        high=high,
        unknown=sum(outcome.correct is None for outcome in mine),
        failed=sum(outcome.error is not None for outcome in mine),
        sequential_tokens=statistics.mean(outcome.sequential_tokens for outcome in mine),
        sequential_tokens_strict=statistics.mean(outcome.sequential_tokens_strict for outcome in mine),
        total_tokens=statistics.mean(outcome.total_tokens for outcome in mine),
        strict_ratio=_share(_strict(mine), _strict(other)),
        stages=statistics.mean(outcome.stages for outcome in mine),
        width=statistics.mean(outcome.width for outcome in mine),
        parallel_share=_share(sum(o.parallel_tokens for o in mine), sum(o.total_tokens for o in mine)),
        serial_collapse=_share(sum(not o.parallel_stages for o in mine), len(mine)),
        spurious_parallelism=_share(sum(o.spurious_stages for o in mine), sum(o.parallel_stages for o in mine)),
        seconds=_median([outcome.seconds for outcome in mine if outcome.seconds is not None]),
        speed_up=_median([*itertools.chain.from_iterable(speed_ups)]),
        speed_up_low=speed_up_low,
        speed_up_high=speed_up_high,
    )


def _speed_ups(
    keys: Sequence[tuple[str, int]],
    runs: Mapping[tuple[str, int], Outcome],
    twins: Mapping[tuple[str, int], Outcome],
) -> list[list[float]]:
    """Divide the twin's wall time by the method's for each timed pair; one list per case."""
    by_case: dict[str, list[float]] = {}
    for key in keys:
        mine, other = runs[key].seconds, twins[key].seconds
        if mine and other:
            by_case.setdefault(key[0], []).append(other / max(mine, 1e-9))
    return [*by_case.values()]


def _strict(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.sequential_tokens_strict for outcome in outcomes)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def markdown(rows: Sequence[Row]) -> str:
    """Write the table as Markdown, with wall times in milliseconds, and accuracies and shares in percent."""
    lines = [
        "| part | method | runs | accuracy (95 %) | sequential tokens | strict | total | strict vs twin "
        "| stages | width | parallel | collapse | spurious | wall ms | speed-up (95 %) |",
        "|---|---|---" + "|---:" * 12 + "|",
    ]
    lines += [
        f"| {row.part} | {row.method} | {row.runs} "
        f"| {100 * row.accuracy:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f}) "
        f"| {row.sequential_tokens:.0f} | {row.sequential_tokens_strict:.0f} | {row.total_tokens:.0f} "
        f"| {row.strict_ratio:.2f} | {row.stages:.1f} | {row.width:.1f} | {100 * row.parallel_share:.0f} "
        f"| {100 * row.serial_collapse:.0f} | {100 * row.spurious_parallelism:.0f} "
        f"| {'-' if row.seconds is None else f'{1000 * row.seconds:.0f}'} "
        f"| {speed_up_text(row)} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def speed_up_text(row: Row) -> str:
    """Write the speed-up with its interval; a hyphen if no pair of the row was timed."""
    if row.speed_up is None:
        return "-"
    return f"{row.speed_up:.2f} ({row.speed_up_low:.2f} to {row.speed_up_high:.2f})"
