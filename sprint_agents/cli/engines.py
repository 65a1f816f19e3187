"""The engines that the command line can open."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from sprint_agents.engine import Engine
from sprint_agents.errors import ConfigurationError
from sprint_agents.testing import FakeEngine

from .stand_in import stand_in

EngineName = Literal["local", "fake"]


@asynccontextmanager
async def open_engine(name: EngineName, *, model: Path | None, paced: bool = False) -> AsyncGenerator[Engine]:
    """Open an engine and close it behind the block.

    ``model`` is a checkpoint directory, by default the shipped one. A ``paced`` fake writes at a speed to watch.

    Raises:
        ConfigurationError: no such checkpoint, a missing extra, or a checkpoint for the fake.
    """
    if name == "fake":
        if model is not None:
            raise ConfigurationError(f"the fake engine has no model, so {model} is of no use: give --engine local")
        async with stand_in(paced=paced) as fake:
            yield fake
        return
    from sprint_agents.engines.local import LocalEngine  # only here: nothing else waits for it

    async with LocalEngine(model or _shipped()) as engine:
        yield engine


def _shipped() -> Path:
    """Find the model that comes with the package."""
    from sprint_agents.models import nano_path

    return nano_path()


def describe(engine: Engine) -> str:
    """Name an engine to someone who watches, and must not take a program for a model."""
    return "a program, no model (--engine fake)" if isinstance(engine, FakeEngine) else engine.name
