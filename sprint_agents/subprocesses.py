"""Questions to programs that may hang, crash or exhaust memory, so they run in separate processes.

``Subprocesses`` is the side of the caller. ``answer_questions`` is the ``main`` of the program, a module that is run by
``python -m``. Between them pass lines of JSON: a question goes in, its answer comes out.
"""

import asyncio
import io
import json
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_GRACE = 5.0
"""Seconds between the caller's time limit and the program's own alarm."""
_MEMORY = 4 * 2**30
"""Limit of a program's address space, in bytes."""
_LONGEST_LINE = 64 * 2**20
"""Limit of an answer, in bytes."""


class Subprocesses:
    """Asks up to ``processes`` processes of the program ``module``, one question at a time each.

    Use it as an async context manager. A process starts when it is first needed. One that exceeds the time of its
    question, or dies, is replaced.
    """

    def __init__(self, module: str, *, processes: int = 2) -> None:
        self._module = module
        self._free = asyncio.Semaphore(processes)
        self._idle: list[asyncio.subprocess.Process] = []

    async def ask(self, question: object, *, seconds: float) -> Any:
        """Return the answer, a JSON value; None if the program failed or took longer than ``seconds``."""
        line = json.dumps([seconds, question]).encode() + b"\n"
        async with self._free:
            process = self._idle.pop() if self._idle else await self._start()
            reply = b""
            try:
                reply = await _ask(process, line, seconds=seconds)
            finally:
                # A process that has not answered may still do so later, so it must not get another question.
                if reply.endswith(b"\n"):
                    self._idle.append(process)
                else:
                    await _end(process)
            return json.loads(reply) if reply.endswith(b"\n") else None

    async def _start(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", self._module)
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=_LONGEST_LINE)
        try:
            await _read(process)  # wait for "ready": the time for imports is not that of the first question
        except BaseException:
            await _end(process)
            raise
        return process

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._idle:
            await _end(self._idle.pop())


def answer_questions(answer: Callable[[Any], object]) -> None:
    """Answer the questions on stdin until it ends, as a program that ``Subprocesses`` runs; None if ``answer`` raises.

    The caller kills the process when the time for an answer is over. In case the caller itself was killed, the process
    also has its own alarm. It has a memory limit too.
    """
    # What a library prints is no answer, and what it reads or closes is no question.
    out, sys.stdout = sys.stdout, sys.stderr
    questions, sys.stdin = sys.stdin, io.StringIO()
    _limit_memory()
    print("ready", file=out, flush=True)
    for line in questions:
        seconds, question = json.loads(line)
        _alarm(seconds + _GRACE)
        try:
            found = answer(question)
        except Exception:
            found = None
        print(json.dumps(found), file=out, flush=True)
        _alarm(0)


async def _ask(process: asyncio.subprocess.Process, question: bytes, *, seconds: float) -> bytes:
    """Return the line that a process answers, or nothing if it timed out or died."""
    assert process.stdin is not None
    try:
        async with asyncio.timeout(seconds):
            process.stdin.write(question)
            await process.stdin.drain()
            return await _read(process)
    except (TimeoutError, OSError, ValueError):  # a ValueError for a line beyond the limit
        return b""


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def _alarm(seconds: float) -> None:
    """Ask the system to end this process after so many seconds; 0 cancels the alarm."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
