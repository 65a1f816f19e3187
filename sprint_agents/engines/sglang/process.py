"""The processes of a server: started in their own session, ended together (Linux).

Invariants:

- A process is identified by its id and its start time, so a later process with the same id is never touched.
- After ``stop`` no process of the session's first group is running, whether it obeyed or had to be killed.
- A server ends with the program that spawned it, unless it was released. Its leader is the guard that sees to this.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from sprint_agents.engines.guard import guarded

_PROC = Path("/proc")
_LOOK_EVERY = 0.05
_AFTER_KILL = 5.0


class Process(BaseModel):
    """The leader of a server's processes; ``started`` is in clock ticks since the machine booted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: int

    @property
    def running(self) -> bool:
        """Whether the leader is still running."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # leave no zombie, if it is our child
        status = _status(self.pid)
        return status is not None and status.alive and status.started == self.started

    async def stop(self, *, patience: float) -> None:
        """Ask the leader to end; after ``patience`` seconds, or on cancellation, kill the rest of its group."""
        if (status := _status(self.pid)) and status.started != self.started:
            return  # another process has this id now
        if self.running:
            with suppress(ProcessLookupError):  # it ends just now
                os.kill(self.pid, signal.SIGTERM)
        try:
            await _until(lambda: not self.running, seconds=patience)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await _until(lambda: not (self.running or any(_group(self.pid))), seconds=_AFTER_KILL)


async def _until(done: Callable[[], bool], *, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not done():  # noqa: ASYNC110 (no event reports the end of a process that is not a child)
                await asyncio.sleep(_LOOK_EVERY)


class Lifeline:
    """The end of a pipe that keeps a server running: the server ends when this program closes it, or dies."""

    def __init__(self, descriptor: int) -> None:
        # A bare descriptor: an object would close it as soon as the caller drops the server.
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the server outlive this program."""
        with suppress(BrokenPipeError):  # it has ended already
            os.write(self._descriptor, b"\n")
        self.close()

    def close(self) -> None:
        """End the server, unless it was released."""
        os.close(self._descriptor)


def spawn(command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> tuple[Process, Lifeline]:
    """Start ``command`` under a guard, in its own session; the output of both is appended to ``log``."""
    command = guarded(command)
    inner, outer = os.pipe()  # no other child inherits them
    actions = [
        (os.POSIX_SPAWN_DUP2, inner, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        # Unlike ``subprocess``, this creates no object that must be waited for.
        pid = os.posix_spawn(command[0], command, dict(environment), file_actions=actions, setsid=True)
    except BaseException:
        os.close(outer)
        raise
    finally:
        os.close(inner)
    status = _status(pid)
    return Process(pid=pid, started=status.started if status else 0), Lifeline(outer)


class _Status(NamedTuple):
    alive: bool
    group: int
    started: int


def _status(pid: int) -> _Status | None:
    """Read ``/proc/<pid>/stat`` (proc(5): state, process group and start time are fields 3, 5 and 22)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return _Status(fields[0] not in "ZX", int(fields[2]), int(fields[19]))


def _group(group: int) -> Iterator[int]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (status := _status(int(entry.name))) and status.alive and status.group == group:
            yield int(entry.name)
