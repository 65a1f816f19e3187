"""The results of a curation in numbers."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor

from pydantic import BaseModel, ConfigDict

from .filtering import share_of
from .records import Reason, Rejection, Sample, Shape, StageName, Trace

_FROZEN = ConfigDict(frozen=True, extra="forbid")

BIN = 0.5
"""Width of a histogram bin, in steps per stage."""


class RejectionCount(BaseModel):
    """How many traces a stage rejected for one reason, and the details of the first of them."""

    model_config = _FROZEN

    stage: StageName
    reason: Reason
    count: int
    example: str


class Bin(BaseModel):
    """How many packed traces have a parallelisation ratio in the half-open range from ``low`` to ``high``."""

    model_config = _FROZEN

    low: float
    high: float
    count: int


class Report(BaseModel):
    """The result of a curation.

    Attributes:
        traces: number of items in the source.
        samples: number of samples, ``train`` and ``eval`` together.
        lines: number of lines of the samples' traces, each of which is in its trajectory exactly once.
        rejected: all other traces, by stage and reason.
        ratios: histogram of the parallelisation ratio of all packed traces, kept or not.
        stages: number of samples by their number of stages.
        formats: number of traces by the format that their rows were recognised as.
        violations: dependency violations in samples.
        samples_with_violations: number of samples that have any.
        sequential_share: sequential tokens of the trajectories divided by those of their chains, counted in words and
            without tags; None without samples.
        strict_shares: the same of each sample with tags, in ascending order: the first is the greatest gain.
    """

    model_config = _FROZEN

    traces: int
    samples: int
    train: int
    eval: int
    lines: int
    rejected: tuple[RejectionCount, ...]
    ratios: tuple[Bin, ...]
    stages: dict[int, int]
    formats: dict[str, int]
    violations: int
    samples_with_violations: int
    sequential_share: float | None
    strict_shares: tuple[float, ...]


@dataclass(slots=True)
class Tally:
    """Running counts of rejections, packed traces and samples."""

    _rejections: defaultdict[tuple[StageName, Reason], list[str]] = field(
        default_factory=lambda: defaultdict[tuple[StageName, Reason], list[str]](list)
    )
    _ratios: list[float] = field(default_factory=list[float])
    _splits: Counter[str] = field(default_factory=Counter[str])
    _stages: Counter[int] = field(default_factory=Counter[int])
    _violations: list[int] = field(default_factory=list[int])
    _words: Counter[str] = field(default_factory=Counter[str])
    _formats: Counter[str] = field(default_factory=Counter[str])
    _shares: list[float] = field(default_factory=list[float])
    _lines: int = 0

    def reject(self, rejection: Rejection) -> None:
        """Count a rejection."""
        self._rejections[rejection.stage, rejection.reason].append(f"{rejection.id}: {rejection.detail}")

    def read(self, trace: Trace) -> None:
        """Count a trace that was read."""
        self._formats[trace.format] += 1

    def pack(self, shape: Shape) -> None:
        """Count a packed trace."""
        self._ratios.append(shape.ratio)

    def keep(self, sample: Sample, *, lines: int) -> None:
        """Count a sample made of ``lines`` lines."""
        self._splits[sample.split] += 1
        self._stages[sample.shape.stages] += 1
        self._violations.append(len(sample.shape.violations))
        self._lines += lines
        self._shares.append(share_of(sample))
        self._words["trajectories"] += sample.metrics.sequential_tokens
        self._words["chains"] += sample.chain_metrics.sequential_tokens

    def report(self) -> Report:
        """Return the totals."""
        rejected = tuple(
            RejectionCount(stage=stage, reason=reason, count=len(found), example=found[0])
            for (stage, reason), found in sorted(self._rejections.items(), key=lambda item: -len(item[1]))
        )
        chains = self._words["chains"]
        return Report(
            traces=self._splits.total() + sum(count.count for count in rejected),
            samples=self._splits.total(),
            train=self._splits["train"],
            eval=self._splits["eval"],
            lines=self._lines,
            rejected=rejected,
            ratios=histogram(self._ratios),
            stages=dict(sorted(self._stages.items())),
            formats=dict(sorted(self._formats.items())),
            violations=sum(self._violations),
            samples_with_violations=sum(count > 0 for count in self._violations),
            sequential_share=self._words["trajectories"] / chains if chains else None,
            strict_shares=tuple(sorted(round(share, 3) for share in self._shares)),
        )


def histogram(ratios: Sequence[float]) -> tuple[Bin, ...]:
    """Count ratios in bins of width ``BIN``, without gaps.

    >>> [(bin.low, bin.count) for bin in histogram([1.0, 1.2, 2.0])]
    [(1.0, 2), (1.5, 0), (2.0, 1)]
    """
    counts = Counter(floor(ratio / BIN) for ratio in ratios)
    places = range(min(counts), max(counts) + 1) if counts else range(0)
    return tuple(Bin(low=place * BIN, high=(place + 1) * BIN, count=counts[place]) for place in places)
