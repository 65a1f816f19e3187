"""The engine that writes rollouts, with the weights of the latest iteration."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
from pydantic import BaseModel, ValidationError

from sprint_agents.engine import Engine
from sprint_agents.engines import LocalEngine, SGLangEngine
from sprint_agents.errors import EngineProtocolError, EngineRejected, EngineUnavailable

_RELOAD_SECONDS = 600.0


@asynccontextmanager
async def serving(checkpoint: Path, *, server: str | None) -> AsyncGenerator[Engine]:
    """Open an engine on a checkpoint: in this process, or an SGLang server that loads it first.

    Raises:
        EngineError: the server cannot be reached, or cannot load the checkpoint.
    """
    if server is None:
        async with LocalEngine(checkpoint) as engine:
            yield engine
    else:
        await reload_weights(server, checkpoint)
        async with SGLangEngine(server, tokenizer=checkpoint) as engine:
            yield engine


class _Reloaded(BaseModel):
    success: bool
    message: str = ""


async def reload_weights(server: str, checkpoint: Path, *, patience: float = _RELOAD_SECONDS) -> None:
    """Have an SGLang server load the weights of a checkpoint, which it must find under the same path.

    The server reads the whole checkpoint from disk and empties its cache, and no request may run meanwhile. API:
    ``POST /update_weights_from_disk``.

    Raises:
        EngineUnavailable: the server cannot be reached, or did not answer within ``patience`` seconds.
        EngineRejected: the server could not load the checkpoint; it keeps its former weights.
        EngineProtocolError: the server gave another answer than SGLang's.
    """
    body = {"model_path": str(checkpoint), "flush_cache": True}
    try:
        async with httpx2.AsyncClient(base_url=server, timeout=patience) as client:
            response = await client.post("/update_weights_from_disk", json=body)
    except httpx2.HTTPError as error:
        raise EngineUnavailable(f"{server} did not load {checkpoint}: {error or type(error).__name__}") from error
    try:
        reloaded = _Reloaded.model_validate_json(response.content)
    except ValidationError as error:
        raise EngineProtocolError(
            f"{server} answered /update_weights_from_disk with {response.status_code} and {response.text[:200]!r}: "
            "is it an SGLang server?"
        ) from error
    if not reloaded.success:
        raise EngineRejected(
            f"{server} could not load {checkpoint}: {reloaded.message}. It needs the folder under the same path"
        )
