"""The protocol of extractors, which find steps and dependencies, and the checks that every extraction must pass."""

from collections.abc import Iterable
from typing import Protocol

from .dag import ExtractionFault
from .lines import numbers_in
from .records import Dag, Extraction, LineRange, Rejection, Step, Trace


class Extractor(Protocol):
    """Finds the steps of a trace and what each builds on. The two methods are two stages of the pipeline.

    Return a rejection for a trace that cannot be processed. Raise the error of a failed engine instead, because then
    the trace is not at fault.
    """

    @property
    def name(self) -> str:
        """Return a name that identifies the results of this extractor: kind, version, model."""
        ...

    async def steps(self, trace: Trace) -> Extraction | Rejection:
        """Find the steps of a trace."""
        ...

    async def dag(self, trace: Trace, extraction: Extraction) -> Dag | Rejection:
        """Find the parents of the steps that ``steps`` returned."""
        ...


def steps_fault(steps: Iterable[Step], *, lines: int) -> ExtractionFault | None:
    """Find a fault in the steps of a trace with ``lines`` lines. None means that they cover each line exactly once.

    >>> steps_fault([Step(number=1, plan=((1, 2),)), Step(number=2, plan=((2, 3),))], lines=3).detail
    'line 2 is in step 1 and in step 2'
    """
    owners: dict[int, int] = {}
    count = 0
    for step in steps:
        count += 1
        ranges = (*step.plan, *step.execution, *step.comments)
        if fault := _ranges_fault(step.number, ranges, lines):
            return fault
        for line in numbers_in(ranges):
            if line in owners:
                other = f"step {owners[line]}" if owners[line] != step.number else "the same step"
                return ExtractionFault("overlap", f"line {line} is in {other} and in step {step.number}")
            owners[line] = step.number
        if not step.plan and not step.execution:
            return ExtractionFault("empty_step", f"step {step.number} has neither plan nor execution")
        if step.execution and not step.plan and not (step.prompt or "").strip():
            return ExtractionFault("no_prompt", f"step {step.number} has an execution and no prompt")
    if missing := [line for line in range(1, lines + 1) if line not in owners]:
        named = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        return ExtractionFault("uncovered", f"these lines are in no step: {named}" if count else "there is no step")
    return None


def _ranges_fault(step: int, ranges: Iterable[LineRange], lines: int) -> ExtractionFault | None:
    for first, last in ranges:
        if not 1 <= first <= last <= lines:
            return ExtractionFault(
                "out_of_range", f"step {step} has the lines {first} to {last}, but the trace has the lines 1 to {lines}"
            )
    return None
