"""A server's processes: those of a program that is killed end too."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from .conftest import PYTHON, START_TIMEOUT

PROGRAM = """
import asyncio, sys
from sprint_agents.engines import SGLangServer

async def main():
    async with SGLangServer(sys.argv[1], python=sys.argv[2], start_timeout=float(sys.argv[3])) as server:
        print(server.process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_server_ends_with_its_schedulers_when_its_program_is_killed(checkpoint: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(checkpoint), str(PYTHON), str(START_TIMEOUT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program, ExitStack() as stack:
        assert program.stdout is not None
        session = int(program.stdout.readline())
        processes = [os.pidfd_open(pid) for pid in of_session(session)]
        for process in processes:
            stack.callback(os.close, process)
        program.kill()
        assert len(processes) >= 4  # the guard, the server, a scheduler, a detokenizer
        for process in processes:
            assert select.select([process], [], [], 30.0)[0]  # readable once the process has ended


def of_session(session: int) -> Iterator[int]:
    """Find the processes of a session."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if os.getsid(pid := int(entry.name)) == session:
                yield pid
