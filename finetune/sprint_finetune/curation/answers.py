"""Whether a trace came to the right answer: by a task's own checker, by the same text, or by math-verify.

math-verify (and sympy below it) can hang or eat memory on a model's LaTeX, so it runs in processes that are killed when
their time is over.
"""

import asyncio
import json
import re
import sys
from importlib.util import find_spec
from types import TracebackType
from typing import Protocol, Self

from sprint_agents.dialects.answers import boxed
from sprint_agents.errors import MissingExtra
from sprint_agents.nano.tasks import recognise

from .lines import in_words, lines_of
from .records import Rejection, Trace, Verdict

_STATED = re.compile(r"\banswer(?:\s+is|\s*[:=])\s*[:=]?(?=\s*[^\s.])", re.IGNORECASE)
_WORKER = "sprint_finetune.curation.math_worker"


class Verifier(Protocol):
    """Compares two answers by their mathematical value."""

    async def equal(self, reference: str, stated: str) -> bool | None:
        """Tell whether they are equal; None if that could not be decided in time."""
        ...


def stated_answer(trace: Trace) -> str | None:
    r"""Find the answer that a trace states: its last ``\boxed``, or what follows "answer is" in its last lines.

    Where there is neither, a conclusion of one line is the answer itself.

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
    """Decide whether the answer that a trace states is right."""
    stated = stated_answer(trace)
    if not stated:
        detail = r"the trace states no answer: neither \boxed{…} nor 'answer is …' at its end"
        return Rejection(id=trace.id, stage="answer", reason="no_answer", detail=detail)
    same_text = _normal(stated) == _normal(trace.answer)
    task = recognise(trace.problem)
    if task is not None:
        if task.check(stated):
            return Verdict(id=trace.id, stated=stated, by="task")
        # A reference in words alone, "no solution found", is no wrong solution but says that there is none.
        if same_text and in_words(trace.answer):
            return Verdict(id=trace.id, stated=stated, by="text")
        return _wrong(trace, stated)
    if same_text:
        return Verdict(id=trace.id, stated=stated, by="text")
    equal = await verifier.equal(trace.answer, stated)
    if equal is None:
        detail = f"it was not decided in time whether {stated[:200]!r} equals {trace.answer[:200]!r}"
        return Rejection(id=trace.id, stage="answer", reason="undecided_answer", detail=detail)
    return Verdict(id=trace.id, stated=stated, by="math-verify") if equal else _wrong(trace, stated)


class MathVerifier:
    """A ``Verifier`` by math-verify, in up to ``processes`` processes; ``seconds`` for one comparison.

    Use as an async context manager. A process starts when it is first needed; one that takes too long, or dies, is
    replaced by another.
    """

    def __init__(self, *, processes: int = 2, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._free = asyncio.Semaphore(processes)
        self._idle: list[asyncio.subprocess.Process] = []

    async def equal(self, reference: str, stated: str) -> bool | None:
        """Tell whether two answers are equal; None if math-verify took too long or broke down.

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
                # A process without an answer may still write one: it must not be asked again.
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
        await _read(process)  # it has imported sympy now, which is not counted as thinking
    except BaseException:
        await _end(process)
        raise
    return process


async def _ask(process: asyncio.subprocess.Process, question: bytes, *, seconds: float) -> bytes:
    """Return the line that a process answers; none if its time is over or it is gone."""
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
