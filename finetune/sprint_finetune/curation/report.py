"""What a curation has come to, in numbers."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor

from pydantic import BaseModel, ConfigDict

from .records import Reason, Rejection, Sample, Shape, StageName

_FROZEN = ConfigDict(frozen=True, extra="forbid")

BIN = 0.5
"""Width of a bar of the histogram, in steps per stage."""


class RejectionCount(BaseModel):
    """How many traces a stage left out for one reason, and what was found in the first of them."""

    model_config = _FROZEN

    stage: StageName
    reason: Reason
    count: int
    example: str


class Bin(BaseModel):
    """How many packed traces have a parallelisation ratio from ``low`` up to, but not including, ``high``."""

    model_config = _FROZEN

    low: float
    high: float
    count: int


class Report(BaseModel):
    """The result of a curation.

    Attributes:
        traces: how many items the source has.
        samples: how many became samples: ``train`` and ``eval`` together.
        lines: lines of the samples' traces, each of which stands in its trajectory exactly once.
        rejected: all others, by stage and reason.
        ratios: histogram of the parallelisation ratio, of all packed traces, kept or not.
        stages: how many samples have so many stages, by that number.
        violations: dependency violations in samples, and ``samples_with_violations`` how many have any.
        sequential_share: sequential tokens of the trajectories over those of their chains, without tags and in words;
            None without samples.
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
    violations: int
    samples_with_violations: int
    sequential_share: float | None


@dataclass(slots=True)
class Tally:
    """Counts under way: of rejections, packed traces and samples."""

    _rejections: defaultdict[tuple[StageName, Reason], list[str]] = field(
        default_factory=lambda: defaultdict[tuple[StageName, Reason], list[str]](list)
    )
    _ratios: list[float] = field(default_factory=list[float])
    _splits: Counter[str] = field(default_factory=Counter[str])
    _stages: Counter[int] = field(default_factory=Counter[int])
    _violations: list[int] = field(default_factory=list[int])
    _words: Counter[str] = field(default_factory=Counter[str])
    _lines: int = 0

    def reject(self, rejection: Rejection) -> None:
        """Count a rejection."""
        self._rejections[rejection.stage, rejection.reason].append(f"{rejection.id}: {rejection.detail}")

    def pack(self, shape: Shape) -> None:
        """Count a packed trace."""
        self._ratios.append(shape.ratio)

    def keep(self, sample: Sample, *, lines: int) -> None:
        """Count a sample made of so many lines."""
        self._splits[sample.split] += 1
        self._stages[sample.shape.stages] += 1
        self._violations.append(len(sample.shape.violations))
        self._lines += lines
        self._words["trajectories"] += sample.metrics.sequential_tokens
        self._words["chains"] += sample.chain_metrics.sequential_tokens

    def report(self) -> Report:
        """Add up."""
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
            violations=sum(self._violations),
            samples_with_violations=sum(count > 0 for count in self._violations),
            sequential_share=self._words["trajectories"] / chains if chains else None,
        )


def histogram(ratios: Sequence[float]) -> tuple[Bin, ...]:
    """Count ratios in bins of ``BIN``, without gaps.

    >>> [(bin.low, bin.count) for bin in histogram([1.0, 1.2, 2.0])]
    [(1.0, 2), (1.5, 0), (2.0, 1)]
    """
    counts = Counter(floor(ratio / BIN) for ratio in ratios)
    places = range(min(counts), max(counts) + 1) if counts else range(0)
    return tuple(Bin(low=place * BIN, high=(place + 1) * BIN, count=counts[place]) for place in places)
