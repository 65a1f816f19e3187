"""Check the answer of a trace: find what it states, and grade that (``sprint_finetune.grading``)."""

from sprint_finetune.grading import Verifier, grade, stated_in
from sprint_finetune.grading.letters import choice_letter, is_letter

from .lines import lines_of
from .records import Rejection, Trace, Verdict


def stated_answer(trace: Trace) -> str | None:
    r"""Find the answer that a trace states: in its conclusion, else in its chain of thought (``grading.stated_in``).

    If there is none and the conclusion is a single line, that line is the answer. Of multiple choice it is the letter.

    >>> stated_answer(Trace(id="1", problem="6*7?", trace="<think>\n42\n</think>\nThe answer is $42$.", answer="42"))
    '$42$'
    """
    lines = lines_of(trace.trace)
    letters = is_letter(trace.answer)
    for part in (lines.conclusion, lines.chain):
        stated = stated_in("\n".join(part), letters=letters)
        if stated is not None:
            return (choice_letter(stated) or stated) if letters else stated
    return lines.conclusion[0].strip() if len(lines.conclusion) == 1 else None


async def check_answer(trace: Trace, verifier: Verifier) -> Verdict | Rejection:
    """Decide whether the answer that a trace states is correct."""
    stated = stated_answer(trace)
    if not stated:
        detail = r"the trace states no answer: neither \boxed{…} nor 'answer is …' at its end"
        return Rejection(id=trace.id, stage="answer", reason="no_answer", detail=detail)
    right, by = await grade(trace.problem, reference=trace.answer, stated=stated, verifier=verifier)
    if right:
        return Verdict(id=trace.id, stated=stated, by=by)
    if right is None:
        detail = f"the comparison of {stated[:200]!r} with {trace.answer[:200]!r} could not be decided in time"
        return Rejection(id=trace.id, stage="answer", reason="undecided_answer", detail=detail)
    detail = f"the trace states {stated[:200]!r}, the reference is {trace.answer[:200]!r}"
    return Rejection(id=trace.id, stage="answer", reason="wrong_answer", detail=detail)
