"""Notice completions that were cut off, and a planner that makes no progress.

Invariants:

- No format is known here: the dialect's reader says what a completion holds.
- What was noticed is a diagnostic of its stage, so a run that resumes from a journal decides as the first one did.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sprint_agents.budget import Limits
from sprint_agents.dialects.completions import Diagnostic, DiagnosticKind, PlanReader, PromptClosed, excerpt
from sprint_agents.errors import NoProgress
from sprint_agents.generation import Generation
from sprint_agents.plan import Stage

_IDLE: tuple[DiagnosticKind, ...] = ("no_plan", "nothing_written", "repeated_plan")
_MOST_IDLE = 2
"""The stages in a row that may bring nothing new."""


def cut_off(
    generation: Generation, *, limit: int, setting: str, stage: int, number: int | None = None
) -> tuple[Diagnostic, ...]:
    """Report a completion that was cut off; ``setting`` is what bounds it to ``limit`` tokens."""
    finish = generation.finish
    if finish is None or finish.reason != "length":
        return ()
    what = f"plan {stage}" if number is None else f"execution {stage}.{number}"
    tokens = generation.tokens
    reason = (
        f"raise {setting}"
        if tokens >= limit
        else f"{setting} allows {limit:,}, but the model's context or the budget ends there"
    )
    message = f"{what} was cut off after {tokens:,} tokens: {reason}"
    return (Diagnostic(kind="cut_off", message=message, stage=stage, number=number, position=generation.length),)


def missing_plan(reader: PlanReader, generation: Generation, *, stage: int) -> Diagnostic | None:
    """Report a completion without subtasks and an answer, in words that the model may read; None if it is a plan.

    Between tags, a plan without subtasks is a step that the planner itself takes. In JSON it is nothing, and its reader
    says so.
    """
    text, thoughts = generation.text.strip(), reader.chain or ""
    cut = generation.finish is not None and generation.finish.reason == "length"
    found = [fault.message for fault in reader.diagnostics if fault.kind == "no_plan"]
    if reader.plan is not None and not cut and not found:
        return None
    if not text or (thoughts and len(text) <= len(thoughts) + _MARKUP) or (cut and reader.plan is not None):
        reasoned = text or generation.tokens > 1  # one token may be the end of an empty turn
        spent = f"all {generation.tokens:,} tokens went into reasoning" if reasoned else "nothing was written"
        return Diagnostic(kind="nothing_written", message=spent, stage=stage, position=0)
    message = "; ".join(found) or f"{excerpt(text)} is neither a plan nor an answer"
    return Diagnostic(kind="no_plan", message=message, stage=stage, position=0)


_MARKUP = 24
"""The most characters around thoughts, such as ``<think>`` and ``</think>``."""


def repeated_plan(stage: Stage[Any], earlier: Sequence[Stage[Any]]) -> tuple[Diagnostic, ...]:
    """Report a stage that has the prompts of the stage before it, and its results."""
    last = earlier[-1] if earlier else None
    if last is None or _idle(stage) or not _work(stage) or _work(stage) != _work(last):
        return ()
    message = f"plan {stage.plan_number} repeats plan {last.plan_number}, with the same results"
    return (Diagnostic(kind="repeated_plan", message=message, stage=stage.plan_number, position=0),)


def _work(stage: Stage[Any]) -> list[tuple[str, str]]:
    """Return what a stage has done: its subtasks with their results, or the planner's own thinking in a plan."""
    if stage.executions or not stage.plan:
        return [(execution.prompt, execution.text) for execution in stage.executions]
    return [(stage.plan.strip(), "")]


def _idle(stage: Stage[Any]) -> list[Diagnostic]:
    """Return why a stage brought nothing new: one fault, or none."""
    return [fault for fault in stage.diagnostics if fault.kind in _IDLE]


def must_answer(stages: Sequence[Stage[Any]], limits: Limits) -> bool:
    """Say whether a planner that still writes, but no plan, has to answer in the next stage.

    Raises:
        NoProgress: it wrote nothing new in the last two stages.
    """
    idle = [fault for stage in stages[-_MOST_IDLE:] for fault in _idle(stage)]
    if len(idle) < _MOST_IDLE:
        return False
    kinds = {fault.kind for fault in idle}
    if kinds == {"no_plan"} and len({fault.message for fault in idle}) > 1:
        return True
    where = " and ".join(str(stage.number) for stage in stages[-_MOST_IDLE:])
    cuts = [fault.message for fault in stages[-1].diagnostics if fault.kind == "cut_off"]
    causes = "; ".join([idle[-1].message, *cuts])
    raise NoProgress(f"the planner made no progress in stages {where}: {causes}. {_advice(kinds, cuts, limits)}")


def _advice(kinds: Collection[str], cuts: Sequence[str], limits: Limits) -> str:
    if cuts:
        return (
            f"Raise Limits(plan_tokens=…), which is {limits.plan_tokens:,}, or lower the model's effort: have it "
            "reason less, or not at all"
        )
    if "repeated_plan" in kinds:
        return "Raise Sampling(temperature=…), say in Planner(instructions=…) when to answer, or use another model"
    if "nothing_written" in kinds:
        return "Check the model's chat template and stop tokens, or use another model"
    return "Use a model that follows instructions, or an engine that holds it to JSON schemas"


def unknown_dependencies(prompt: PromptClosed, known: Sequence[int], stage: int) -> list[Diagnostic]:
    """Report the subtasks that a prompt waits for although they do not precede it; it does not wait for them."""
    return [
        Diagnostic(
            kind="odd_dependency",
            message=f"subtask {stage}.{prompt.number} waits for {other}, which does not precede it: ignored",
            stage=stage,
            number=prompt.number,
            position=prompt.end,
        )
        for other in prompt.after
        if other not in known
    ]
