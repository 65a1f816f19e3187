"""The engines that the command line can open."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import typer

from sprint_agents.engine import Engine
from sprint_agents.errors import ConfigurationError
from sprint_agents.testing import FakeEngine

from .stand_in import stand_in

STATE = Path(typer.get_app_dir("sprint-agents")) / "engine"
"""Where the server that ``sprint engine up`` started is recorded, together with its log."""

EngineName = Literal["local", "sglang", "openai", "fake"]


@asynccontextmanager
async def open_engine(
    name: EngineName, *, model: str | None, url: str | None = None, api_key: str | None = None, paced: bool = False
) -> AsyncGenerator[Engine]:
    """Open an engine and close it behind the block.

    ``model`` is a checkpoint directory, by default the shipped one; of an ``openai`` server, what it calls the model.
    ``url`` is the server's, by default that of the SGLang server that ``sprint engine up`` started; an SGLang server
    tokenizes, unless ``model`` is its checkpoint. A ``paced`` fake writes at a speed to watch.

    Raises:
        ConfigurationError: no such checkpoint, a missing extra, no server, or an option that is not for this engine.
    """
    if url is not None and name not in ("sglang", "openai"):
        raise ConfigurationError(
            f"the {name} engine is no server, so {url} is of no use: give --engine sglang or --engine openai"
        )
    if name == "sglang":
        from sprint_agents.engines.sglang import SGLangEngine

        async with SGLangEngine(url or _started(), tokenizer=model) as server:
            yield server
        return
    if name == "openai":
        from sprint_agents.engines.openai import OpenAIEngine

        if url is None or model is None:
            raise ConfigurationError(
                "--engine openai needs a server and a model: give --url, such as http://127.0.0.1:11434/v1, and --model"
            )
        async with OpenAIEngine(url, model=model, api_key=api_key) as hosted:
            yield hosted
        return
    if name == "fake":
        if model is not None:
            raise ConfigurationError(f"the fake engine has no model, so {model} is of no use: give --engine local")
        async with stand_in(paced=paced) as fake:
            yield fake
        return
    from sprint_agents.engines.local import LocalEngine  # only here: nothing else waits for it

    async with LocalEngine(Path(model) if model else shipped()) as engine:
        yield engine


def _started() -> str:
    """Find the server that ``sprint engine up`` started."""
    from sprint_agents.engines.sglang import detached

    if server := detached.status(STATE):
        return server.url
    raise ConfigurationError("no server is up: start one by `sprint engine up`, or name yours by --url")


def shipped() -> Path:
    """Find the model that comes with the package."""
    from sprint_agents.nano import nano_path

    return nano_path()


def describe(engine: Engine) -> str:
    """Name an engine to someone who watches, and must not take a program for a model."""
    return "a program, no model (--engine fake)" if isinstance(engine, FakeEngine) else engine.name
