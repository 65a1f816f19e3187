"""Dependency violations: steps that use a value which they cannot see in a run."""

from collections.abc import Iterator, Sequence

from .lines import lines_of
from .records import Packed, Trace, Violation
from .reformatting import StepText, text_of_step
from .rules.dependencies import Makers, Uses
from .rules.facts import Facts, symbols_of
from .rules.headings import inputs_of


def violations_of(trace: Trace, packed: Packed) -> tuple[Violation, ...]:
    """Find every use of a value that only an execution of the same stage makes.

    An executor sees the problem, all earlier stages and its own plan up to its prompt. A plan sees no execution of
    its own stage (arXiv 2506.05745, section 3.1). Values are numbers and symbols as ``rules.facts`` finds them, so
    the result is an estimate, for English text.
    """
    lines = lines_of(trace.trace).chain
    texts = [text_of_step(step, lines) for step in packed.steps]
    finder = _Finder(texts, trace.problem)
    return tuple(violation for stage in packed.stages for violation in finder.in_stage(stage))


class _Finder:
    """Reads the stages in order. ``_visible`` holds the facts that all later steps may read."""

    def __init__(self, texts: Sequence[StepText], problem: str) -> None:
        self._texts = texts
        self._unknowns = symbols_of(problem)
        self._visible = Facts.of([problem])

    def in_stage(self, stage: Sequence[int]) -> Iterator[Violation]:
        """Compare each step of a stage with the executions of the earlier steps in that stage."""
        makers = Makers(unknowns=self._unknowns)
        for number in stage:
            text = self._texts[number - 1]
            planned = [*text.plan, *text.prompt]
            plan = makers.lenders(Uses.of(planned), knows=self._knows)
            run = makers.lenders(Uses.of([*planned, *text.execution]), knows=self._knows)
            for source in sorted({*plan, *run}):
                in_plan = plan.get(source, set[str]())
                for value in sorted(in_plan):
                    yield Violation(step=number, part="plan", source=source, value=value)
                for value in sorted(run.get(source, set[str]()) - in_plan):
                    yield Violation(step=number, part="execution", source=source, value=value)
            for line in (*text.plan, *map(inputs_of if text.heading else str, text.prompt)):
                self._visible.read(line)
            makers.add(number, text.execution)
        for number in stage:
            for line in self._texts[number - 1].execution:
                self._visible.read(line)

    def _knows(self, value: str) -> bool:
        return value in (self._visible.mentioned if value[0].isdigit() else self._visible.made)
