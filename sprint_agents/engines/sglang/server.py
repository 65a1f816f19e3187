"""The SGLang server as a part of a program: started for a checkpoint, ready when entered, gone when left.

SGLang and torch live in an environment of their own (``make sglang`` builds one that runs on any CPU); only its
interpreter is named here.
"""

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import BaseModel, ValidationError

from sprint_agents.engines.http import Http
from sprint_agents.errors import ConfigurationError, EngineError, EngineTimeout, EngineUnavailable, InvalidCheckpoint

from .process import Process, spawn

Device = Literal["auto", "cpu", "gpu"]
"""Where a server computes."""

_HOST = "127.0.0.1"
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")
_ASK_EVERY = 0.25
_LOG_LINES = 30


class SGLangServer:
    """A server process for the checkpoint in a directory, as an async context manager.

    ``python`` is the interpreter of an environment with SGLang, this one's by default; ``port`` 0 takes a free one.
    ``device`` ``auto`` is the GPU where the machine has one, else the CPU, where the server computes in the
    checkpoint's own precision, on one thread, with room for ``cache_tokens`` in its radix cache; ``arguments`` (of
    ``sglang.launch_server``) and ``environment`` go last and win. ``log`` keeps what the server prints; without one it
    is shown only if the start fails.

    Leaving the block ends all processes, within ``stop_timeout`` seconds in peace, after it by force.

    Raises:
        ConfigurationError: no interpreter with SGLang.
        InvalidCheckpoint: no such checkpoint.
    """

    def __init__(
        self,
        checkpoint: str | PathLike[str],
        *,
        python: str | PathLike[str] | None = None,
        port: int = 0,
        device: Device = "auto",
        cache_tokens: int = 65536,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log: str | PathLike[str] | None = None,
        start_timeout: float = 300.0,
        stop_timeout: float = 10.0,
    ) -> None:
        self._python = _interpreter(python)
        self.checkpoint = Path(checkpoint).absolute()
        self._port = port
        self._cpu = device == "cpu" or (device == "auto" and not any(Path(path).exists() for path in _GPU_DEVICES))
        self._arguments = [*_model_arguments(self.checkpoint, cpu=self._cpu, cache_tokens=cache_tokens), *arguments]
        self._environment = dict(environment or {})
        self._kept_log = Path(log).absolute() if log is not None else None
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._scratch: Path | None = None
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where the server listens.

        Raises:
            ConfigurationError: it was not started.
        """
        if self._process is None:
            raise _not_started()
        return f"http://{_HOST}:{self._port}"

    @property
    def process(self) -> Process:
        """The first of the server's processes.

        Raises:
            ConfigurationError: it was not started.
        """
        if self._process is None:
            raise _not_started()
        return self._process

    async def __aenter__(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            EngineUnavailable: it ended while starting; the message has the end of its log.
            EngineTimeout: it was not ready within ``start_timeout``; it is stopped.
        """
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and wait until it answers; nothing stops it but ``stop``."""
        self._port = _free_port(self._port)
        command = [self._python, "-W", "ignore", "-m", "sglang.launch_server", "--host", _HOST]
        command += ["--port", str(self._port), *self._arguments]
        try:
            self._process = spawn(command, environment=self._variables(), log=self._log())
        except OSError as error:
            raise ConfigurationError(f"{self._python} cannot be started: {error}") from error
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._ready()
        except TimeoutError as error:
            raise EngineTimeout(
                f"the SGLang server was not ready after {self._start_timeout:g} s; its log ends:\n{self.log_tail()}"
            ) from error

    async def stop(self) -> None:
        """End all of the server's processes; nothing happens if there are none."""
        try:
            if self._process:
                await self._process.stop(patience=self._stop_timeout)
        finally:
            self._process = None
            if self._scratch:
                shutil.rmtree(self._scratch, ignore_errors=True)
                self._scratch = None

    def log_tail(self, lines: int = _LOG_LINES) -> str:
        """Return the last lines that the server printed."""
        try:
            text = self._log().read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    async def _ready(self) -> None:
        """Wait for the model's description, then for the server's own probe, which generates a token."""
        http = Http(
            self.url,
            api_key=None,
            client=None,
            max_connections=1,
            connect_timeout=5.0,
            read_timeout=self._start_timeout,
        )
        try:
            for path in ("/model_info", "/health"):
                while not await _answers(http, path):
                    if not self.process.running:
                        raise EngineUnavailable(
                            f"the SGLang server ended while starting; its log ends:\n{self.log_tail()}"
                        )
                    await asyncio.sleep(_ASK_EVERY)
        finally:
            await http.aclose()

    def _log(self) -> Path:
        if self._kept_log is not None:
            self._kept_log.parent.mkdir(parents=True, exist_ok=True)
            return self._kept_log
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="sprint-sglang-"))
        return self._scratch / "log"

    def _variables(self) -> dict[str, str]:
        variables = dict(os.environ)
        # The checkpoint is here already, and SGLang's own mode for CPUs needs kernels that are on no package index.
        variables |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        variables.pop("SGLANG_USE_CPU_ENGINE", None)
        if self._cpu:
            # Several processes share the cores: more threads in each only wait for one another (20 times slower on 2).
            variables |= {"SGLANG_PLATFORM": "plain_cpu", "OMP_NUM_THREADS": "1"}
        return variables | self._environment


def _not_started() -> ConfigurationError:
    return ConfigurationError("this server was not started: use it in `async with SGLangServer(…) as server`")


async def _answers(http: Http, path: str) -> bool:
    try:
        await http.probe(path)
    except EngineError:
        return False
    return True


class _Config(BaseModel):
    dtype: str | None = None
    torch_dtype: str | None = None  # its name before transformers 5


def _model_arguments(checkpoint: Path, *, cpu: bool, cache_tokens: int) -> list[str]:
    path = checkpoint / "config.json"
    try:
        config = _Config.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidCheckpoint(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        raise InvalidCheckpoint(f"{path} is not the description of a model: {error}") from error
    arguments = ["--model-path", str(checkpoint), "--served-model-name", checkpoint.name, "--sleep-on-idle"]
    # Else every event repeats the whole text and all ids so far.
    arguments.append("--incremental-streaming-output")
    if cpu:
        arguments += ["--device", "cpu", "--max-total-tokens", str(cache_tokens)]
        # SGLang halves float32 unless told not to, and then rounds some greedy choices away.
        if (config.dtype or config.torch_dtype) == "float32":
            arguments += ["--dtype", "float32"]
    return arguments


def _interpreter(python: str | PathLike[str] | None) -> str:
    if python is None:
        if find_spec("sglang") is None:
            raise ConfigurationError(
                "SGLang is not installed beside this library: build its own environment by `make sglang` and pass "
                "python='.venv-sglang/bin/python'"
            )
        return sys.executable
    # Not resolved: a virtual environment's interpreter is a link, and is known by where the link is.
    path = Path(python).absolute()
    if not os.access(path, os.X_OK):
        raise ConfigurationError(f"{path} is no interpreter: `make sglang` builds .venv-sglang/bin/python")
    return str(path)


def _free_port(wanted: int) -> int:
    """Return ``wanted``, or any free port for 0; whoever listens there would be taken for the new server."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted))
        except OSError as error:
            raise ConfigurationError(f"port {wanted} is taken: name another, or 0 for any") from error
        return probe.getsockname()[1]
