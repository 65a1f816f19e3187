"""Questions to an SGLang server about its model: its name and sizes.

A token id outside the vocabulary crashes a server on a CPU, by an index error in its embedding. So the engine finds
the size of the vocabulary before it sends anything: from the checkpoint's ``config.json`` if it is on this machine,
otherwise from the server, which names the valid range when it refuses a bias for an id beyond it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from sprint_agents.engines.checkpoint import vocabulary_size
from sprint_agents.engines.http import HttpClient
from sprint_agents.errors import EngineError, EngineProtocolError, EngineRejected, EngineUnavailable
from sprint_agents.logs import log

_BEYOND = 2**31 - 1
Priorities = Literal["none", "high first", "low first"]
"""Which values of a request's priority a server serves first, if any."""

_RANGE = re.compile(r"logit_bias must has keys in \[0, (?P<last>\d+)\]")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that a server runs.

    ``directory`` is its checkpoint, if that is on this machine. A size is None if the server does not say it. ``ranks``
    are its data-parallel copies, each with a cache of its own, which holds whole pages of ``page_tokens``.
    ``priorities`` says which requests it serves first. ``direct`` says whether the server itself answers, not a router.
    With ``sessions``, it keeps the tokens of running runs longer than others.
    """

    name: str
    directory: Path | None
    vocabulary_size: int | None
    context_limit: int | None
    ranks: int = 1
    page_tokens: int = 1
    priorities: Priorities = "none"
    direct: bool = False
    sessions: bool = False


class _ServerInfo(BaseModel):
    dp_size: int = 1
    page_size: int | None = Field(default=None, ge=1)
    enable_priority_scheduling: bool = False
    schedule_low_priority_values_first: bool = False
    enable_session_radix_cache: bool = False


class _ModelInfo(BaseModel):
    model_path: str
    served_model_name: str | None = None


class _ModelCard(BaseModel):
    max_model_len: int | None = None


class _ModelCards(BaseModel):
    data: list[_ModelCard] = Field(min_length=1)


async def ask_model(http: HttpClient, directory: Path | None) -> ServedModel:
    """Ask the server about its model; ``directory`` is the checkpoint, if the caller knows it.

    Raises:
        EngineError: the server is not ready, or is not an SGLang server.
    """
    info = await _ask_info(http, directory)
    directory = directory or (_existing(info.model_path) if http.local else None)
    size = vocabulary_size(directory) if directory else None
    if size is None and (size := await _ask_vocabulary_size(http)) is None:
        log("warning", "engine.vocabulary_unknown", logger=__name__, url=http.url, model=info.model_path)
    name = Path(info.served_model_name or info.model_path).name
    info_of_server = await _ask_server(http)
    server = info_of_server or _ServerInfo()
    priorities: Priorities = "low first" if server.schedule_low_priority_values_first else "high first"
    return ServedModel(
        name,
        directory,
        size,
        await _ask_context_limit(http),
        ranks=server.dp_size,
        page_tokens=server.page_size or 1,
        priorities=priorities if server.enable_priority_scheduling else "none",
        direct=info_of_server is not None,
        sessions=server.enable_session_radix_cache,
    )


async def _ask_info(http: HttpClient, directory: Path | None) -> _ModelInfo:
    try:
        answer = await http.get("/model_info")
    except EngineRejected:  # SGLang's router knows only the older name, and with --dp-aware, it fails at that
        try:
            answer = await http.get("/get_model_info")
        except EngineUnavailable as error:
            if directory is None:
                raise EngineUnavailable(
                    f"{error}. If this is a router with --dp-aware, give tokenizer=, the directory of the checkpoint"
                ) from error
            return _ModelInfo(model_path=str(directory))
    try:
        return _ModelInfo.model_validate(answer)
    except ValidationError as error:
        raise EngineProtocolError(f"{http.url}/model_info is not what an SGLang server answers") from error


def _existing(path: str) -> Path | None:
    directory = Path(path)
    return directory if directory.is_dir() else None


async def _ask_server(http: HttpClient) -> _ServerInfo | None:
    """Ask how the server schedules; a router does not say it, nor may a server whose administrator has a key."""
    try:
        return _ServerInfo.model_validate(await http.get("/server_info"))
    except (EngineProtocolError, EngineRejected, ValidationError):
        return None


async def _ask_context_limit(http: HttpClient) -> int | None:
    try:
        limit = _ModelCards.model_validate(await http.get("/v1/models")).data[0].max_model_len
    except (EngineProtocolError, EngineRejected, ValidationError):
        return None
    return limit if limit and limit > 0 else None


async def _ask_vocabulary_size(http: HttpClient) -> int | None:
    sampling = {"max_new_tokens": 0, "logit_bias": {str(_BEYOND): 0.0}}
    try:
        await http.post("/generate", {"input_ids": [0], "sampling_params": sampling})
    except EngineError as error:
        if match := _RANGE.search(str(error)):
            return int(match["last"]) + 1
        if not isinstance(error, EngineRejected):
            raise
    return None
