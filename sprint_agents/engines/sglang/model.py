"""What the engine must know about the model that a server runs, asked for once.

A token id outside the vocabulary kills a server on a CPU (an index error in its embedding), so the size is found out
before anything is sent: from the checkpoint's own ``config.json`` if it lies on this machine, else from the server,
which names the valid range when it refuses a bias for an id beyond it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, Field, ValidationError

from sprint_agents.engines.http import Http
from sprint_agents.errors import EngineError, EngineProtocolError, EngineRejected, InvalidCheckpoint

_log = structlog.get_logger(__name__)
_BEYOND = 2**31 - 1
_RANGE = re.compile(r"logit_bias must has keys in \[0, (?P<last>\d+)\]")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """``directory`` is the checkpoint, if it lies on this machine; sizes are None where the server does not tell."""

    name: str
    directory: Path | None
    vocabulary_size: int | None
    context_limit: int | None


class _Info(BaseModel):
    model_path: str
    served_model_name: str | None = None


class _Card(BaseModel):
    max_model_len: int | None = None


class _Cards(BaseModel):
    data: list[_Card] = Field(min_length=1)


class _Config(BaseModel):
    vocab_size: int


async def ask(http: Http, directory: Path | None) -> ServedModel:
    """Ask the server about its model; ``directory`` is its checkpoint as far as the caller knows.

    Raises:
        EngineError: the server is not ready, or is none of SGLang's.
    """
    try:
        answer = await http.get("/model_info")
    except EngineRejected:  # SGLang's router knows only the older name
        answer = await http.get("/get_model_info")
    try:
        info = _Info.model_validate(answer)
    except ValidationError as error:
        raise EngineProtocolError(f"{http.url}/model_info is not what an SGLang server answers") from error
    directory = directory or (_existing(info.model_path) if http.local else None)
    size = vocabulary_size(directory) if directory else None
    if size is None and (size := await _size_by_server(http)) is None:
        _log.warning("engine.vocabulary_unknown", url=http.url, model=info.model_path)
    return ServedModel(
        Path(info.served_model_name or info.model_path).name, directory, size, await _context_limit(http)
    )


def _existing(path: str) -> Path | None:
    directory = Path(path)
    return directory if directory.is_dir() else None


async def _context_limit(http: Http) -> int | None:
    try:
        return _Cards.model_validate(await http.get("/v1/models")).data[0].max_model_len
    except (EngineRejected, ValidationError):
        return None


async def _size_by_server(http: Http) -> int | None:
    sampling = {"max_new_tokens": 0, "logit_bias": {str(_BEYOND): 0.0}}
    try:
        await http.post("/generate", {"input_ids": [0], "sampling_params": sampling})
    except EngineError as error:
        if match := _RANGE.search(str(error)):
            return int(match["last"]) + 1
        if not isinstance(error, EngineRejected):
            raise
    return None


def vocabulary_size(directory: Path) -> int | None:
    """Read how many token ids the model in ``directory`` has; None if its ``config.json`` does not tell.

    Raises:
        InvalidCheckpoint: that file cannot be read.
    """
    path = directory / "config.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidCheckpoint(f"{path} cannot be read: {error}") from error
    try:
        return _Config.model_validate_json(text).vocab_size
    except ValidationError:
        return None
