"""The review of plans: a person, or a function, sees the subtasks of a plan before any of them is started.

Invariants:

- A plan is reviewed once: its stage keeps the verdict for a retry, or for a resumed run.
- A plan of a nested policy, or of a nested sprint, is a part of an execution, and is not reviewed.
"""

from sprint_agents.errors import FunctionError, PlanPaused, PolicyError, show
from sprint_agents.events import ReviewAwaited
from sprint_agents.functions import ask_person
from sprint_agents.plan import Plan
from sprint_agents.run_context import takes_context

from .open_stage import OpenStage
from .session import Session
from .steps import check_dependencies


async def review_plan(session: Session, kept: OpenStage | None, proposed: Plan, *, stage: int) -> Plan:
    """Return the plan to carry out in ``stage``: ``proposed`` itself, or the one that a reviewer has put in its place.

    Raises:
        PlanPaused: another process shall review it.
        FunctionError: the reviewer failed, or returned what is not a plan.
        ReviewTimeout: the reviewer gave no answer in time.
    """
    if kept is not None and kept.review is not None and kept.review.proposed == proposed:
        return proposed if kept.review.plan is None else kept.review.plan
    if session.review is None or (kept is not None and kept.outcomes):
        return proposed  # or an earlier process has carried out a part of it
    reviewer = session.review.reviewer
    if session.listening:
        session.emit(ReviewAwaited(**session.stamp(), stage=stage, plan=proposed))
    if isinstance(reviewer, Plan):
        session.review.reviewer, verdict = "pause", reviewer  # it answers one pause, and the next plan is another
    elif reviewer == "pause":
        raise PlanPaused(f"plan {stage} waits for its review: resume with the journal and review=…", plan=proposed)
    else:
        values = (session.context(stage), proposed) if takes_context(reviewer) else (proposed,)
        seconds = session.limits.review_seconds
        verdict = await ask_person(reviewer, *values, what=f"review= of plan {stage}", seconds=seconds)
    plan = _checked(verdict, proposed, stage)
    if kept is not None:
        kept.keep_review(proposed, None if plan is proposed else plan)
    return plan


def _checked(verdict: object, proposed: Plan, stage: int) -> Plan:
    """Return the plan of a verdict, with the options of the policy's own step.

    Raises:
        FunctionError: it is no plan, or one that cannot be carried out.
    """
    if verdict is None or verdict == proposed:
        return proposed
    if not isinstance(verdict, Plan):
        raise FunctionError(f"review= returned {show(verdict)}: return a Plan, or None for the plan as it is")
    plan = proposed.model_copy(update={"subtasks": verdict.subtasks, "text": verdict.text})
    if not plan.subtasks:
        raise FunctionError("review= returned a plan without subtasks: keep one, or raise an error to end the run")
    try:
        check_dependencies(plan, stage)
    except PolicyError as error:
        raise FunctionError(f"review= returned a plan that cannot be carried out: {error}") from error
    return plan
