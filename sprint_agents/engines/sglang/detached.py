"""A server that outlives the program that started it: up, status, down, by a small record on disk."""

from os import PathLike
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents.errors import ConfigurationError

from .process import Process
from .server import SGLangServer

_FILE = "server.json"
_LOG = "server.log"


class DetachedServer(BaseModel):
    """The record of a running server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    checkpoint: Path
    log: Path
    process: Process


async def up(
    directory: str | PathLike[str],
    checkpoint: str | PathLike[str],
    *,
    python: str | PathLike[str] | None = None,
    port: int = 0,
    arguments: tuple[str, ...] = (),
) -> DetachedServer:
    """Start a server that goes on after this program, recorded in ``directory`` together with its log.

    Raises:
        ConfigurationError: one is recorded there and runs.
        EngineError: it did not start; see ``SGLangServer``.
    """
    if running := status(directory):
        raise ConfigurationError(f"a server for {running.checkpoint} is up already at {running.url}: stop it first")
    log = _fresh_log(directory)
    server = SGLangServer(checkpoint, python=python, port=port, arguments=arguments, log=log)
    try:
        await server.start()
        return _record(server, log)
    except BaseException:
        await server.stop()
        raise


def status(directory: str | PathLike[str]) -> DetachedServer | None:
    """Return the record of the server that runs, None if none does."""
    try:
        text = (Path(directory) / _FILE).read_text(encoding="utf-8")
        record = DetachedServer.model_validate_json(text)
    except (FileNotFoundError, ValidationError):
        return None
    return record if record.process.running else None


async def down(directory: str | PathLike[str], *, stop_timeout: float = 10.0) -> DetachedServer | None:
    """Stop the recorded server and return its record, None if none runs."""
    record = status(directory)
    if record:
        await record.process.stop(patience=stop_timeout)
    (Path(directory) / _FILE).unlink(missing_ok=True)
    return record


def _fresh_log(directory: str | PathLike[str]) -> Path:
    log = Path(directory).absolute() / _LOG
    log.unlink(missing_ok=True)
    return log


def _record(server: SGLangServer, log: Path) -> DetachedServer:
    record = DetachedServer(url=server.url, checkpoint=server.checkpoint, log=log, process=server.process)
    log.with_name(_FILE).write_text(record.model_dump_json(indent=2), encoding="utf-8")
    return record
