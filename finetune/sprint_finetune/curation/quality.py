"""Measures of what curation made: nothing of the trace is lost, and no execution needs what it cannot see."""

from collections import Counter
from collections.abc import Sequence

from sprint_agents.dialect.tags import load_tags
from sprint_agents.tasks import recognise
from sprint_agents.trajectory import Trajectory, TrajectoryStage

from .evidence import Facts, borrowed, symbols_of
from .lines import lines_of
from .records import Packed, Trace, Violation
from .reformatting import StepText, basis_of, text_of_step


def violations_of(trace: Trace, packed: Packed) -> tuple[Violation, ...]:
    """Find what uses a value that only an execution of the same stage makes (PAPER, who sees what).

    An executor sees the problem, all earlier stages and its own plan up to its prompt; a plan sees no execution of its
    own stage. Values are numbers and symbols, by ``evidence``; so this is an estimate, for English.
    """
    lines = lines_of(trace.trace).chain
    texts = [text_of_step(step, lines) for step in packed.steps]
    finder = _Finder(texts, symbols_of(trace.problem), numbers_tell=recognise(trace.problem) is None)
    found: list[Violation] = []
    before = [trace.problem]
    for stage in packed.stages:
        found += finder.in_stage(stage, before)
        for number in stage:
            before += [*texts[number - 1].plan, *texts[number - 1].prompt]
        for number in stage:
            before += texts[number - 1].execution
    return tuple(found)


class _Finder:
    def __init__(self, texts: Sequence[StepText], unknowns: set[str], *, numbers_tell: bool) -> None:
        self._texts = texts
        self._unknowns = unknowns
        self._numbers_tell = numbers_tell

    def in_stage(self, stage: Sequence[int], before: Sequence[str]) -> list[Violation]:
        """Compare each step of a stage with the executions that stand before it in the trace."""
        found: list[Violation] = []
        visible = Facts.of(before)
        for place, number in enumerate(stage):
            text = self._texts[number - 1]
            for source in stage[:place]:
                made = self._texts[source - 1].execution
                plan = self._borrowed([*text.plan, *text.prompt], made, visible)
                run = self._borrowed([*text.plan, *text.prompt, *text.execution], made, visible) - plan
                found += [Violation(step=number, part="plan", source=source, value=value) for value in sorted(plan)]
                found += [Violation(step=number, part="execution", source=source, value=value) for value in sorted(run)]
            for line in [*text.plan, *text.prompt]:
                visible.read(line)
        return found

    def _borrowed(self, user: Sequence[str], maker: Sequence[str], known: Facts) -> set[str]:
        values = borrowed(user, maker, known=known, unknowns=self._unknowns) if user and maker else set[str]()
        return {value for value in values if self._numbers_tell or not value[0].isdigit()}


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
        found += [] if text.written else asked.splitlines()
        found += (subtask.execution or "").splitlines()
    found += plan.splitlines()
    added = {tags.separator, basis_of(packed, stage.number), ""}
    return [line.strip() for line in found if line.strip() not in added]
