"""Runs a server that must not outlive the program that started it, not even if that program is killed.

The program starts ``guarded(command)`` instead of ``command``, in a new session, with a pipe as its input. It keeps the
other end of the pipe, which the system closes when the program ends, however it ends. The guard then asks the server to
end, and kills its whole process group after ``_GRACE`` seconds. A byte in the pipe releases the server: from then on it
outlives the program.

Invariants:

- The guard leads the group. It passes SIGTERM on to the server, and kills the group once the server has ended.
- On Linux the server also ends with the guard. Elsewhere a guard that is killed leaves its server running.
- A process that the program forks without ``exec`` holds the pipe open as well.

This file is also the guard's program. It is run by its path and without site-packages, so it starts in milliseconds.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

_GRACE = 5.0
_SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)


def guarded(command: Sequence[str]) -> list[str]:
    """Return the command that runs ``command`` under a guard."""
    return [sys.executable, "-I", "-S", __file__, *command]


def _guard(command: Sequence[str]) -> None:
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent)  # noqa: S603
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error}")

    def pass_on(number: int, frame: object) -> None:
        server.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    server.wait()
    _kill_group()


def _end_with_input(server: subprocess.Popen[bytes]) -> None:
    if not os.read(0, 1):  # the other end was closed; a byte releases the server
        server.terminate()
        time.sleep(_GRACE)
        _kill_group()


def _kill_group() -> None:
    os.killpg(0, signal.SIGKILL)  # this process too


def _end_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    _guard(sys.argv[1:])
