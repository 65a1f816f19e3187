"""Measures of what curation made: nothing of the trace is lost, and no execution needs what it cannot see."""

from collections import Counter
from collections.abc import Iterator, Sequence

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.trajectory import Trajectory, TrajectoryStage

from .lines import lines_of
from .records import Packed, Trace, Violation
from .reformatting import StepText, basis_of, text_of_step
from .rules.borrowing import Makers, Uses
from .rules.evidence import Facts, symbols_of
from .rules.headings import inputs_of, restated


def violations_of(trace: Trace, packed: Packed) -> tuple[Violation, ...]:
    """Find what uses a value that only an execution of the same stage makes (PAPER, who sees what).

    An executor sees the problem, all earlier stages and its own plan up to its prompt; a plan sees no execution of its
    own stage. Values are numbers and symbols, by ``evidence``; so this is an estimate, for English.
    """
    lines = lines_of(trace.trace).chain
    texts = [text_of_step(step, lines) for step in packed.steps]
    finder = _Finder(texts, trace.problem)
    return tuple(violation for stage in packed.stages for violation in finder.in_stage(stage))


class _Finder:
    """Reads the stages in their order; ``_visible`` is what all that comes next may read."""

    def __init__(self, texts: Sequence[StepText], problem: str) -> None:
        self._texts = texts
        self._unknowns = symbols_of(problem)
        self._visible = Facts.of([problem])

    def in_stage(self, stage: Sequence[int]) -> Iterator[Violation]:
        """Compare each step of a stage with the executions that stand before it in the trace."""
        makers = Makers(unknowns=self._unknowns)
        for number in stage:
            text = self._texts[number - 1]
            planned = [*text.plan, *text.prompt]
            plan = makers.lenders(Uses.of(planned), knows=self._knows)
            run = makers.lenders(Uses.of([*planned, *text.execution]), knows=self._knows)
            for source in sorted({*plan, *run}):
                told = plan.get(source, set[str]())
                for value in sorted(told):
                    yield Violation(step=number, part="plan", source=source, value=value)
                for value in sorted(run.get(source, set[str]()) - told):
                    yield Violation(step=number, part="execution", source=source, value=value)
            for line in (*text.plan, *map(inputs_of if text.heading else str, text.prompt)):
                self._visible.read(line)
            makers.add(number, text.execution)
        for number in stage:
            for line in self._texts[number - 1].execution:
                self._visible.read(line)

    def _knows(self, value: str) -> bool:
        return value in (self._visible.mentioned if value[0].isdigit() else self._visible.made)


def lines_changed(trace: Trace, packed: Packed, text: str) -> Counter[str]:
    """Replay a trajectory and count what became of the trace's lines: lost ones below zero, doubled ones above.

    Nothing is counted if each line of the trace stands in the trajectory exactly once. Added words (separators, written
    prompts, the basis of a plan, the boxed answer) are told by what ``packed`` says, not by how they look.
    """
    trajectory = Trajectory.from_text(text)
    lines = lines_of(trace.trace)
    replayed: Counter[str] = Counter()
    for stage in trajectory.stages:
        replayed.update(_lines_of_stage(stage, packed, lines.chain))
    answer = (trajectory.answer_text or "").splitlines()
    replayed.update(line.strip() for line in answer[: len(lines.conclusion)])
    expected = Counter(line.strip() for line in (*lines.chain, *lines.conclusion))
    return Counter({line: count for line in {*replayed, *expected} if (count := replayed[line] - expected[line])})


def _lines_of_stage(stage: TrajectoryStage, packed: Packed, lines: Sequence[str]) -> list[str]:
    tags = load_tags()
    steps = [packed.steps[number - 1] for number in packed.stages[stage.number - 1]]
    executed = [text_of_step(step, lines) for step in steps if step.execution]
    plan, found = stage.plan, list[str]()
    for subtask, text in zip(stage.subtasks, executed, strict=True):
        prompt = tags.prompt.of(stage.number).numbered(subtask.index)
        before, _, rest = plan.partition(prompt.open)
        asked, _, after = rest.partition(prompt.close)
        plan = f"{before}{after}"
        found += _asked_lines(text, asked.splitlines())
        found += (subtask.execution or "").splitlines()
    found += plan.splitlines()
    added = {tags.separator, basis_of(packed, stage.number), ""}
    return [line.strip() for line in found if line.strip() not in added]


def _asked_lines(text: StepText, asked: Sequence[str]) -> Sequence[str]:
    """Return the lines of the trace that a prompt stands for: itself, its heading if it says as much, or none."""
    if not text.written:
        return asked
    return text.heading if [*asked] == [restated(line) for line in text.heading] else ()
