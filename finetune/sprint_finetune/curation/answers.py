"""Check the answer of a trace: with the task's own checker, by comparing text, or with math-verify.

math-verify (and sympy, on which it builds) may hang or exhaust memory on a model's LaTeX. It therefore runs in separate
processes, which are killed after a timeout.
"""

import asyncio
import json
import re
import sys
from importlib.util import find_spec
from types import TracebackType
from typing import Protocol, Self

from sprint_agents.dialects.completions import boxed
from sprint_agents.errors import MissingExtra
from sprint_agents.nano.tasks import recognise

from .lines import in_words, lines_of
from .records import Rejection, Trace, Verdict

_STATED = re.compile(r"\banswer(?:\s+is|\s*[:=])\s*[:=]?(?=\s*[^\s.])", re.IGNORECASE)
_WORKER = "sprint_finetune.curation.math_worker"


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

    Use it as an async context manager. A process starts when it is first needed. One that exceeds its time or dies is
    replaced.
    """

    def __init__(self, *, processes: int = 2, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._free = asyncio.Semaphore(processes)
        self._idle: list[asyncio.subprocess.Process] = []

    async def equal(self, reference: str, stated: str) -> bool | None:
        """Tell whether two answers are equal, or return None if math-verify took too long or failed.

        Raises:
            MissingExtra: math-verify is not installed.
        """
        question = json.dumps({"reference": reference, "stated": stated}).encode() + b"\n"
        async with self._free:
            process = self._idle.pop() if self._idle else await _start(self._seconds)
            reply = b""
            try:
                reply = await _ask(process, question, seconds=self._seconds)
            finally:
                # A process that has not answered may still do so later, so it must not get another question.
                if reply.endswith(b"\n"):
                    self._idle.append(process)
                else:
                    await _end(process)
            return json.loads(reply) if reply.endswith(b"\n") else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._idle:
            await _end(self._idle.pop())


async def _start(seconds: float) -> asyncio.subprocess.Process:
    if find_spec("math_verify") is None:
        raise MissingExtra("finetune", "math-verify")
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", _WORKER, str(seconds))
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        await _read(process)  # wait for "ready": importing sympy must not count towards the timeout
    except BaseException:
        await _end(process)
        raise
    return process


async def _ask(process: asyncio.subprocess.Process, question: bytes, *, seconds: float) -> bytes:
    """Return the line that a process answers, or nothing if it timed out or died."""
    assert process.stdin is not None
    try:
        async with asyncio.timeout(seconds):
            process.stdin.write(question)
            await process.stdin.drain()
            return await _read(process)
    except (TimeoutError, OSError):
        return b""


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def _normal(answer: str) -> str:
    return "".join(answer.split()).strip("$.").casefold()


def _wrong(trace: Trace, stated: str) -> Rejection:
    detail = f"the trace states {stated[:200]!r}, the reference is {trace.answer[:200]!r}"
    return Rejection(id=trace.id, stage="answer", reason="wrong_answer", detail=detail)
