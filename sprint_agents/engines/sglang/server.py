"""SGLang servers as processes: one that lives as long as a block, and one that outlives the program.

SGLang and torch are installed in their own environment (``make sglang`` builds one that runs on any CPU). This module
only needs the path of that environment's interpreter.
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

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents.arguments import at_least, checked, more_than_zero
from sprint_agents.engines.http import HttpClient
from sprint_agents.errors import ConfigurationError, EngineError, EngineTimeout, EngineUnavailable, InvalidCheckpoint

from .process import Lifeline, Process, spawn

Device = Literal["auto", "cpu", "gpu"]
"""Where a server computes."""

_HOST = "127.0.0.1"
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")
_ASK_EVERY = 0.25
_LOG_LINES = 30
_RECORD_FILE = "server.json"
_LOG_FILE = "server.log"


@checked
class SGLangServer:
    """A server process for the checkpoint in a directory, as an async context manager.

    ``python`` is the interpreter of an environment with SGLang, by default the current one. ``port`` 0 takes a free
    port. ``device`` ``auto`` is the GPU if the machine has one, otherwise the CPU. On a CPU the server computes in the
    checkpoint's own precision, on one thread, with room for ``cache_tokens`` in its radix cache. ``arguments`` (of
    ``sglang.launch_server``) and ``environment`` override everything else. ``log`` is a file for the server's output;
    without one, the output is shown only if the start fails.

    Leaving the block ends all processes: it asks them to end, and kills them after ``stop_timeout`` seconds. They also
    end if this program ends without leaving the block, even if it is killed.

    Raises:
        ConfigurationError: there is no interpreter with SGLang.
        InvalidCheckpoint: there is no such checkpoint.
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
        at_least(0, port=port)
        at_least(1, cache_tokens=cache_tokens)
        more_than_zero(start_timeout=start_timeout, stop_timeout=stop_timeout)
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
        self._lifeline: Lifeline | None = None

    @property
    def url(self) -> str:
        """The server's address.

        Raises:
            ConfigurationError: the server was not started.
        """
        if self._process is None:
            raise _not_started()
        return f"http://{_HOST}:{self._port}"

    @property
    def process(self) -> Process:
        """The leader of the server's processes.

        Raises:
            ConfigurationError: the server was not started.
        """
        if self._process is None:
            raise _not_started()
        return self._process

    async def __aenter__(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            EngineUnavailable: the server ended while starting; the message has the end of its log.
            EngineTimeout: the server was not ready within ``start_timeout``, and was stopped.
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
        """Start the server and wait until it answers. It runs until ``stop``, even if this call fails.

        Raises:
            EngineUnavailable: the server ended while starting; the message has the end of its log.
            EngineTimeout: the server was not ready within ``start_timeout``.
        """
        self._port = _free_port(self._port)
        command = [self._python, "-W", "ignore", "-m", "sglang.launch_server", "--host", _HOST]
        command += ["--port", str(self._port), *self._arguments]
        self._process, self._lifeline = spawn(command, environment=self._variables(), log=self._log())
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._ready()
        except TimeoutError as error:
            raise EngineTimeout(
                f"the SGLang server was not ready after {self._start_timeout:g} s; its log ends:\n{self.log_tail()}"
            ) from error

    def release(self) -> None:
        """Let the server outlive this program; until then it ends with it."""
        if self._lifeline:
            self._lifeline.release()
            self._lifeline = None

    async def stop(self) -> None:
        """End all of the server's processes, if there are any."""
        try:
            if self._process:
                await self._process.stop(patience=self._stop_timeout)
        finally:
            self._process = None
            if self._lifeline:
                self._lifeline.close()
                self._lifeline = None
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
        """Wait for the model's description, then for the server's own health check, which generates a token."""
        http = HttpClient(
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
        # The checkpoint is local already. SGLang's own CPU mode needs kernels that no package index has.
        variables |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        variables.pop("SGLANG_USE_CPU_ENGINE", None)
        variables.setdefault(
            "SGLANG_RETURN_ORIGINAL_LOGPROB", "1"
        )  # log-probabilities before temperature, as elsewhere
        if self._cpu:
            # Several processes share the cores. More threads in each only wait for each other (20 times slower on 2).
            variables |= {"SGLANG_PLATFORM": "plain_cpu", "OMP_NUM_THREADS": "1"}
        return variables | self._environment


def _not_started() -> ConfigurationError:
    return ConfigurationError("this server was not started: use it in `async with SGLangServer(…) as server`")


async def _answers(http: HttpClient, path: str) -> bool:
    try:
        await http.probe(path)
    except EngineError:
        return False
    return True


class _PrecisionConfig(BaseModel):
    dtype: str | None = None
    torch_dtype: str | None = None  # its name before transformers 5


def _model_arguments(checkpoint: Path, *, cpu: bool, cache_tokens: int) -> list[str]:
    path = checkpoint / "config.json"
    try:
        config = _PrecisionConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidCheckpoint(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        raise InvalidCheckpoint(f"{path} does not describe a model: {error}") from error
    arguments = ["--model-path", str(checkpoint), "--served-model-name", checkpoint.name, "--sleep-on-idle"]
    # Without this, every event repeats the whole text and all ids so far.
    arguments.append("--incremental-streaming-output")
    # Where white space is free, a small model writes line breaks until its limit.
    arguments.append("--constrained-json-disable-any-whitespace")
    if cpu:
        arguments += ["--device", "cpu", "--max-total-tokens", str(cache_tokens)]
        # By default SGLang computes float32 checkpoints in half precision, which changes some greedy choices.
        if (config.dtype or config.torch_dtype) == "float32":
            arguments += ["--dtype", "float32"]
    return arguments


def _interpreter(python: str | PathLike[str] | None) -> str:
    if python is None:
        if find_spec("sglang") is None:
            raise ConfigurationError(
                "SGLang is not installed in this environment: build one for it with `make sglang` and pass "
                "python='.venv-sglang/bin/python'"
            )
        return sys.executable
    # Not resolved: a virtual environment is found by the place of the link to its interpreter.
    path = Path(python).absolute()
    if not os.access(path, os.X_OK):
        raise ConfigurationError(f"{path} is not an interpreter: `make sglang` builds .venv-sglang/bin/python")
    return str(path)


def _free_port(wanted: int) -> int:
    """Return ``wanted``, or any free port for 0. A port in use is refused: its owner would be taken for the server."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted))
        except OSError as error:
            raise ConfigurationError(f"port {wanted} is taken: name another, or 0 for any") from error
        return probe.getsockname()[1]


class DetachedServer(BaseModel):
    """The record of a server that outlives the program that started it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    checkpoint: Path
    log: Path
    process: Process


async def start_detached(
    directory: str | PathLike[str],
    checkpoint: str | PathLike[str],
    *,
    python: str | PathLike[str] | None = None,
    port: int = 0,
    arguments: tuple[str, ...] = (),
) -> DetachedServer:
    """Start a server that outlives this program; its record and its log are written to ``directory``.

    Raises:
        ConfigurationError: a recorded server is running already.
        EngineError: the server did not start; see ``SGLangServer``.
    """
    if running := find_detached(directory):
        raise ConfigurationError(f"a server for {running.checkpoint} is up already at {running.url}: stop it first")
    log = _fresh_log(directory)
    server = SGLangServer(checkpoint, python=python, port=port, arguments=arguments, log=log)
    try:
        await server.start()
        record = _record(server, log)
        server.release()
        return record
    except BaseException:
        await server.stop()
        raise


def find_detached(directory: str | PathLike[str]) -> DetachedServer | None:
    """Return the record of the running server; None if none is running."""
    try:
        text = (Path(directory) / _RECORD_FILE).read_text(encoding="utf-8")
        record = DetachedServer.model_validate_json(text)
    except (FileNotFoundError, ValidationError):
        return None
    return record if record.process.running else None


async def stop_detached(directory: str | PathLike[str], *, stop_timeout: float = 10.0) -> DetachedServer | None:
    """Stop the recorded server and return its record; None if none is running."""
    record = find_detached(directory)
    if record:
        await record.process.stop(patience=stop_timeout)
    (Path(directory) / _RECORD_FILE).unlink(missing_ok=True)
    return record


def _fresh_log(directory: str | PathLike[str]) -> Path:
    log = Path(directory).absolute() / _LOG_FILE
    log.unlink(missing_ok=True)
    return log


def _record(server: SGLangServer, log: Path) -> DetachedServer:
    record = DetachedServer(url=server.url, checkpoint=server.checkpoint, log=log, process=server.process)
    log.with_name(_RECORD_FILE).write_text(record.model_dump_json(indent=2), encoding="utf-8")
    return record
