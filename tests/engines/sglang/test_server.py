"""Server processes, tested with a fake module named sglang that answers, dies or hangs on demand."""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sprint_agents.engines.sglang import SGLangServer
from sprint_agents.engines.sglang.server import find_detached, start_detached, stop_detached
from sprint_agents.errors import ConfigurationError, EngineTimeout, EngineUnavailable, InvalidCheckpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers run on Linux")

STAND_IN = """
import http.server, json, os, signal, subprocess, sys, time
print("arguments", json.dumps(sys.argv[1:]), flush=True)
print("variables", json.dumps(dict(os.environ)), flush=True)
mode = os.environ["STAND_IN"]
if mode == "dies":
    sys.exit("no memory left")
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
asked = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += self.path == "/health"
        ready = mode != "unready" and (self.path == "/model_info" or asked > 1)
        self.send_response(200 if ready else 503)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "tiny"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"dtype": "float32", "vocab_size": 4}))
    return directory


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    package = tmp_path / "path" / "sglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "launch_server.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return lambda mode: monkeypatch.setenv("STAND_IN", mode)


@pytest.fixture
def serve(checkpoint: Path, stand_in: Callable[[str], None], tmp_path: Path) -> Callable[..., SGLangServer]:
    def make(mode: str = "obeys", **options: Any) -> SGLangServer:
        stand_in(mode)
        options = {"python": sys.executable, "device": "cpu", "log": tmp_path / "log", "stop_timeout": 5.0} | options
        return SGLangServer(checkpoint, **options)

    return make


def said(log: Path) -> dict[str, Any]:
    """Return what the fake server printed, by its first word."""
    lines = (line.partition(" ") for line in log.read_text().splitlines())
    return {word: json.loads(rest) for word, _, rest in lines if word in ("arguments", "variables", "child")}


def alive(pid: int) -> bool:
    """Say whether a process is running; zombies are not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def running(tmp_path: Path) -> list[int]:
    """Return the processes of fake servers that this test started, recognised by their environment."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"PYTHONPATH={tmp_path}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if alive(pid)]


def all_ended(tmp_path: Path) -> bool:
    """Say whether all of them are gone, after the kernel had time to remove killed ones."""
    deadline = time.monotonic() + 10
    while running(tmp_path) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    return not running(tmp_path)


def test_is_there_inside_the_block_and_gone_after_it(serve: Callable[..., SGLangServer], tmp_path: Path) -> None:
    async def main() -> None:
        async with serve() as server:
            assert {server.process.pid, said(tmp_path / "log")["child"]} < set(running(tmp_path))
            assert server.url.startswith("http://127.0.0.1:")
        assert all_ended(tmp_path)
        with pytest.raises(ConfigurationError, match="was not started"):
            _ = server.url

    asyncio.run(main())


def test_what_does_not_obey_is_killed(serve: Callable[..., SGLangServer], tmp_path: Path) -> None:
    asyncio.run(enter(serve("stubborn", stop_timeout=0.1)))
    assert all_ended(tmp_path)


def test_children_of_a_killed_server_are_ended_too(serve: Callable[..., SGLangServer], tmp_path: Path) -> None:
    async def main() -> None:
        async with serve() as server:
            os.kill(server.process.pid, signal.SIGKILL)

    asyncio.run(main())
    assert all_ended(tmp_path)


def test_an_error_in_the_block_ends_it_too(serve: Callable[..., SGLangServer], tmp_path: Path) -> None:
    async def main() -> None:
        async with serve():
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(main())
    assert all_ended(tmp_path)


def test_cancelling_the_start_ends_it(serve: Callable[..., SGLangServer], tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(0.8), serve("unready"):
            pass

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert all_ended(tmp_path)


def test_a_start_that_fails_shows_the_log(serve: Callable[..., SGLangServer]) -> None:
    with pytest.raises(EngineUnavailable, match=r"ended while starting(.|\n)*no memory left$"):
        asyncio.run(enter(serve("dies")))


def test_a_start_that_takes_too_long(serve: Callable[..., SGLangServer], tmp_path: Path) -> None:
    with pytest.raises(EngineTimeout, match=r"not ready after 0.8 s; its log ends"):
        asyncio.run(enter(serve("unready", start_timeout=0.8)))
    assert all_ended(tmp_path)


PROGRAM = """
import asyncio, sys
from sprint_agents.engines.sglang import SGLangServer
from sprint_agents.engines.sglang.server import start_detached
checkpoint, folder = sys.argv[1:]

async def main():
    if folder:
        return await start_detached(folder, checkpoint, python=sys.executable)
    async with SGLangServer(checkpoint, python=sys.executable, device="cpu"):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def program(checkpoint: Path, folder: Path | str = "") -> subprocess.Popen[bytes]:
    """Start a program with a server that is the block's, or with one in ``folder`` that outlives it."""
    command = [sys.executable, "-c", PROGRAM, str(checkpoint), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_ends_with_a_program_that_is_killed(checkpoint: Path, stand_in: Callable[[str], None], tmp_path: Path) -> None:
    stand_in("obeys")
    with program(checkpoint) as killed:
        assert killed.stdout is not None
        said_first, there = killed.stdout.readline(), running(tmp_path)
        killed.kill()
    assert said_first == b"ready\n"
    assert len(there) == 4  # the program, the guard, the server and its child
    assert all_ended(tmp_path)


async def enter(server: SGLangServer) -> None:
    async with server:
        pass


def test_on_a_cpu_the_checkpoints_precision_and_one_thread(
    serve: Callable[..., SGLangServer], tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")
    asyncio.run(enter(serve(arguments=["--dtype", "bfloat16"], environment={"OMP_NUM_THREADS": "2"}, cache_tokens=99)))
    printed = said(tmp_path / "log")
    arguments = dict(zip(printed["arguments"], printed["arguments"][1:], strict=False))
    assert arguments["--model-path"] == str(checkpoint)
    assert arguments["--device"] == "cpu"
    assert arguments["--max-total-tokens"] == "99"
    # What the caller says comes last.
    assert printed["arguments"][-4:] == ["--dtype", "float32", "--dtype", "bfloat16"]
    assert printed["variables"]["OMP_NUM_THREADS"] == "2"
    assert printed["variables"]["SGLANG_PLATFORM"] == "plain_cpu"
    assert "SGLANG_USE_CPU_ENGINE" not in printed["variables"]


def test_on_a_gpu_sglang_decides(serve: Callable[..., SGLangServer], tmp_path: Path) -> None:
    asyncio.run(enter(serve(device="gpu")))
    printed = said(tmp_path / "log")
    assert not {"--device", "--dtype", "--max-total-tokens"} & set(printed["arguments"])
    assert "SGLANG_PLATFORM" not in printed["variables"]


def test_a_log_of_its_own_is_removed(serve: Callable[..., SGLangServer], tmp_path: Path) -> None:
    async def main() -> None:
        async with serve(log=None) as server:
            assert "arguments" in server.log_tail(100)
        assert server.log_tail() == ""
        await server.stop()

    asyncio.run(main())
    assert not (tmp_path / "log").exists()


class TestWhatCannotStart:
    def test_a_port_that_is_taken(self, serve: Callable[..., SGLangServer]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigurationError, match=f"port {port} is taken"):
                asyncio.run(enter(serve(port=port)))

    def test_no_interpreter(self, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="make sglang"):
            SGLangServer(checkpoint, python=tmp_path / "python")

    def test_an_interpreter_that_is_none(self, serve: Callable[..., SGLangServer], tmp_path: Path) -> None:
        broken = tmp_path / "python"
        broken.write_bytes(b"\x7fELF no")
        broken.chmod(0o700)
        with pytest.raises(EngineUnavailable, match="cannot be started"):
            asyncio.run(enter(serve(python=broken)))

    def test_sglang_beside_the_library_is_missing(self, checkpoint: Path) -> None:
        with pytest.raises(ConfigurationError, match="SGLang is not installed"):
            SGLangServer(checkpoint)

    @pytest.mark.parametrize("content", [None, "{", "[]"])
    def test_no_checkpoint(self, tmp_path: Path, content: str | None) -> None:
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(InvalidCheckpoint, match=r"config\.json"):
            SGLangServer(tmp_path, python=sys.executable)


class TestDetached:
    @pytest.fixture
    def folder(self, tmp_path: Path, stand_in: Callable[[str], None]) -> Iterator[Path]:
        stand_in("obeys")
        folder = tmp_path / "state"
        yield folder
        asyncio.run(stop_detached(folder, stop_timeout=0.1))

    def test_up_status_down(self, folder: Path, checkpoint: Path, tmp_path: Path) -> None:
        assert find_detached(folder) is None
        up = asyncio.run(start_detached(folder, checkpoint, python=sys.executable, arguments=("--flag",)))
        assert find_detached(folder) == up
        assert up.checkpoint == checkpoint
        assert "--flag" in said(up.log)["arguments"]
        with pytest.raises(ConfigurationError, match=f"is up already at {up.url}"):
            asyncio.run(start_detached(folder, checkpoint, python=sys.executable))
        assert asyncio.run(stop_detached(folder)) == up
        assert all_ended(tmp_path)
        assert find_detached(folder) is None
        assert asyncio.run(stop_detached(folder)) is None

    def test_outlives_the_program(self, folder: Path, checkpoint: Path, tmp_path: Path) -> None:
        with program(checkpoint, folder) as ended:
            pass
        assert ended.returncode == 0
        up = find_detached(folder)
        assert up is not None
        assert said(up.log)["child"] in running(tmp_path)

    def test_a_later_process_of_the_same_id_is_left_alone(self, folder: Path, checkpoint: Path) -> None:
        up = asyncio.run(start_detached(folder, checkpoint, python=sys.executable))
        stranger = up.model_copy(update={"process": up.process.model_copy(update={"started": 1})})
        record = folder / "server.json"
        kept = record.read_text()
        record.write_text(stranger.model_dump_json())
        assert asyncio.run(stop_detached(folder)) is None
        assert alive(up.process.pid)
        record.write_text(kept)

    def test_a_start_that_fails_leaves_nothing(
        self, folder: Path, checkpoint: Path, stand_in: Callable[[str], None]
    ) -> None:
        stand_in("dies")
        with pytest.raises(EngineUnavailable, match="no memory left"):
            asyncio.run(start_detached(folder, checkpoint, python=sys.executable))
        assert find_detached(folder) is None

    def test_a_damaged_record_is_none(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "server.json").write_text("{")
        assert find_detached(folder) is None
