"""The processes of a server: started in a session of their own, ended together (Linux).

Invariants:

- A process is known by its id and its start time, so a later process that got the same id is never touched.
- After ``stop`` no process of the session's first group runs, whether it obeyed or had to be killed.
"""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

_PROC = Path("/proc")
# The end of a process that is no child of ours can only be seen by looking.
_LOOK_EVERY = 0.05
_AFTER_KILL = 5.0


class Process(BaseModel):
    """The leader of a server's processes; ``started`` is in clock ticks since the machine's start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: int

    @property
    def running(self) -> bool:
        """Whether the leader is still there."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # do not leave a zombie, if it is our child
        status = _status(self.pid)
        return status is not None and status.alive and status.started == self.started

    async def stop(self, *, patience: float) -> None:
        """Ask the leader to end, then kill what remains of its group after ``patience`` seconds, or when cancelled."""
        if not self.running:
            return
        os.kill(self.pid, signal.SIGTERM)
        try:
            await self._gone(patience)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self._gone(_AFTER_KILL)

    async def _gone(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.running or any(_group(self.pid)):
                    await asyncio.sleep(_LOOK_EVERY)


def spawn(command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Process:
    """Start ``command`` in a session of its own, without input, its output appended to ``log``.

    Raises:
        OSError: it cannot be started.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # Unlike ``subprocess``, this leaves no object behind that insists on being waited for.
    pid = os.posix_spawn(command[0], list(command), dict(environment), file_actions=actions, setsid=True)
    status = _status(pid)
    return Process(pid=pid, started=status.started if status else 0)


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
