"""Make a sample from a packed trace, and replay it to verify that every line of the trace survived."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.trajectory import Trajectory, TrajectoryStage

from .lines import lines_of
from .records import Packed, Rejection, Sample, Shape, Split, Trace, Verdict
from .reformatting import StepText, Style, basis_of, chain_text, text_of_step, trajectory_text
from .rules.tasks import restated


def sample_of(
    trace: Trace, verdict: Verdict, packed: Packed, shape: Shape, *, style: Style, eval_share: float
) -> Sample | Rejection:
    """Write the sample and read it back. A sample that does not read back exactly is rejected."""
    text = trajectory_text(trace, packed, verdict.stated, style=style)
    chain = chain_text(trace, verdict.stated)
    trajectory, twin = Trajectory.from_text(text), Trajectory.from_text(chain)
    if fault := _fault(trace, packed, trajectory, text) or _fault_of_twin(trace, twin):
        return Rejection(id=trace.id, stage="reformat", reason="not_well_formed", detail=fault)
    return Sample(
        id=trace.id,
        problem=trace.problem.strip(),
        answer=verdict.stated,
        split=split_of(trace.problem, eval_share=eval_share),
        text=text,
        chain=chain,
        shape=shape,
        metrics=trajectory.metrics,
        chain_metrics=twin.metrics,
    )


def split_of(problem: str, *, eval_share: float) -> Split:
    r"""Return the split of a problem, by a hash of its words. A share of ``eval_share`` is for evaluation.

    Neither the order of the traces nor a seed matters, and no problem is in both splits.

    >>> split_of("What is 6*7?", eval_share=0.0), split_of(" what is\n6*7? ", eval_share=1.0)
    ('train', 'eval')
    """
    words = " ".join(problem.casefold().split())
    place = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") / 2**64
    return "eval" if place < eval_share else "train"


def lines_changed(trace: Trace, packed: Packed, text: str) -> Counter[str]:
    """Replay a trajectory and count the lines of the trace that it lost (negative) or repeats (positive).

    The result is empty if the trajectory has each line of the trace exactly once. Lines that reformatting adds
    (separators, written prompts, the basis of a plan, the boxed answer) are recognised from ``packed``, not from how
    they look.
    """
    trajectory = Trajectory.from_text(text)
    lines = lines_of(trace.trace)
    replayed: Counter[str] = Counter()
    for stage in trajectory.stages:
        replayed.update(_lines_of_stage(stage, packed, lines.chain))
    conclusion = _split(lines.conclusion)
    answer = (trajectory.answer_text or "").splitlines()
    replayed.update(line.strip() for line in answer[: len(conclusion)])
    expected = Counter(line.strip() for line in (*_split(lines.chain), *conclusion))
    return Counter({line: count for line in {*replayed, *expected} if (count := replayed[line] - expected[line])})


def _split(units: Sequence[str]) -> list[str]:
    """Return the lines of units: a displayed formula or a block of code has several."""
    return [line for unit in units for line in unit.splitlines()]


def _fault(trace: Trace, packed: Packed, trajectory: Trajectory, text: str) -> str | None:
    if fault := _unreadable(trace, trajectory):
        return fault
    if len(trajectory.stages) != len(packed.stages):
        return f"it reads back with {len(trajectory.stages)} stages, not {len(packed.stages)}"
    if changed := lines_changed(trace, packed, text):
        line, count = min(changed.items())
        return f"{len(changed)} lines do not occur exactly once, such as {line[:80]!r} ({count:+d})"
    return None


def _fault_of_twin(trace: Trace, twin: Trajectory) -> str | None:
    fault = _unreadable(trace, twin)
    return f"its chain: {fault}" if fault else None


def _unreadable(trace: Trace, trajectory: Trajectory) -> str | None:
    if trajectory.diagnostics:
        return f"it reads back with a diagnostic: {trajectory.diagnostics[0].message}"
    if trajectory.question != trace.problem.strip():
        return f"it reads back with another question, {trajectory.question[:80]!r}"
    return None


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
        found += _lines_of_prompt(text, asked.splitlines())
        found += (subtask.execution or "").splitlines()
    found += plan.splitlines()
    added = {tags.separator, basis_of(packed, stage.number), ""}
    return [line.strip() for line in found if line.strip() not in added]


def _lines_of_prompt(text: StepText, asked: Sequence[str]) -> Sequence[str]:
    """Return the lines of the trace that a prompt represents.

    A prompt made of plan lines represents those lines. A written prompt represents the heading that it restates, or
    nothing.
    """
    if not text.written:
        return asked
    return _split(text.heading) if [*asked] == _split([restated(line) for line in text.heading]) else ()
