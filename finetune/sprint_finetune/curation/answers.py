"""Check the answer of a trace: with the task's own checker, by comparing text, or with math-verify.

math-verify (and sympy, on which it builds) may hang or exhaust memory on a model's LaTeX. It therefore runs in separate
processes, which are killed after a timeout.
"""

import re
from importlib.util import find_spec
from types import TracebackType
from typing import Protocol, Self

from sprint_agents.dialects.completions import boxed
from sprint_agents.errors import MissingExtra
from sprint_agents.nano.tasks import recognise
from sprint_agents.subprocesses import Subprocesses

from .lines import in_words, lines_of
from .records import Rejection, Trace, Verdict

_STATED = re.compile(r"\banswer(?:\s+is|\s*[:=])\s*[:=]?(?=\s*[^\s.])", re.IGNORECASE)


class Verifier(Protocol):
    """Compares two answers by their mathematical value."""

    async def equal(self, reference: str, stated: str) -> bool | None:
        """Tell whether the answers are equal, or return None if that could not be decided in time."""
        ...


def stated_answer(trace: Trace) -> str | None:
    r"""Find the answer that a trace states: its last ``\boxed``, or the text after "answer is" in its last lines.

    If there is neither and the conclusion is a single line, that line is the answer.

    >>> stated_answer(Trace(id="1", problem="6*7?", trace="<think>\n42\n</think>\nThe answer is $42$.", answer="42"))
    '$42$'
    """
    lines = lines_of(trace.trace)
    for part in (lines.conclusion, lines.chain):
        if (value := boxed("\n".join(part))) is not None:
            return value
        for line in reversed(part[-3:]):
            if match := _STATED.search(line):
                return line[match.end() :].strip().removesuffix(".").rstrip()
    return lines.conclusion[0].strip() if len(lines.conclusion) == 1 else None


async def check_answer(trace: Trace, verifier: Verifier) -> Verdict | Rejection:
    """Decide whether the answer that a trace states is correct."""
    stated = stated_answer(trace)
    if not stated:
        detail = r"the trace states no answer: neither \boxed{…} nor 'answer is …' at its end"
        return Rejection(id=trace.id, stage="answer", reason="no_answer", detail=detail)
    same_text = _normal(stated) == _normal(trace.answer)
    task = recognise(trace.problem)
    if task is not None:
        if task.check(stated):
            return Verdict(id=trace.id, stated=stated, by="task")
        # A reference such as "no solution found" states that there is no solution, so compare it as text.
        if same_text and in_words(trace.answer):
            return Verdict(id=trace.id, stated=stated, by="text")
        return _wrong(trace, stated)
    if same_text:
        return Verdict(id=trace.id, stated=stated, by="text")
    equal = await verifier.equal(trace.answer, stated)
    if equal is None:
        detail = f"the comparison of {stated[:200]!r} with {trace.answer[:200]!r} timed out"
        return Rejection(id=trace.id, stage="answer", reason="undecided_answer", detail=detail)
    return Verdict(id=trace.id, stated=stated, by="math-verify") if equal else _wrong(trace, stated)


class MathVerifier:
    """A ``Verifier`` that runs math-verify in up to ``processes`` processes, with ``seconds`` for each comparison.

    Use it as an async context manager.
    """

    def __init__(self, *, processes: int = 2, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._processes = Subprocesses("sprint_finetune.curation.math_worker", processes=processes)

    async def equal(self, reference: str, stated: str) -> bool | None:
        """Tell whether two answers are equal, or return None if math-verify took too long or failed.

        Raises:
            MissingExtra: math-verify is not installed.
        """
        if find_spec("math_verify") is None:
            raise MissingExtra("finetune", "math-verify")
        return await self._processes.ask({"reference": reference, "stated": stated}, seconds=self._seconds)

    async def __aenter__(self) -> Self:
        await self._processes.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._processes.__aexit__(kind, error, trace)


def _normal(answer: str) -> str:
    return "".join(answer.split()).strip("$.").casefold()


def _wrong(trace: Trace, stated: str) -> Rejection:
    detail = f"the trace states {stated[:200]!r}, the reference is {trace.answer[:200]!r}"
    return Rejection(id=trace.id, stage="answer", reason="wrong_answer", detail=detail)
