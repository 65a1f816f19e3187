"""From a packed trace to the sample that training reads."""

from sprint_agents.trajectory import Trajectory

from .quality import lines_changed
from .records import Packed, Rejection, Sample, Shape, Trace, Verdict
from .reformatting import Style, chain_text, trajectory_text
from .splitting import split_of


def sample_of(
    trace: Trace, verdict: Verdict, packed: Packed, shape: Shape, *, style: Style, eval_share: float
) -> Sample | Rejection:
    """Write the sample, and read it back: whatever is not as it should be is rejected, not trained on."""
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


def _fault(trace: Trace, packed: Packed, trajectory: Trajectory, text: str) -> str | None:
    if fault := _unreadable(trace, trajectory):
        return fault
    if len(trajectory.stages) != len(packed.stages):
        return f"it reads back with {len(trajectory.stages)} stages, not {len(packed.stages)}"
    if changed := lines_changed(trace, packed, text):
        line, count = min(changed.items())
        return f"{len(changed)} lines do not stand in it once, such as {line[:80]!r} ({count:+d})"
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
