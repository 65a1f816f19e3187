"""A real instruct model (SmolLM2-135M) on real engines, in the environment that ``make real`` builds.

The model is weak, so these tests hold the machinery to its promises and never ask whether an answer is right.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from environments.real.llama_cpp import LlamaCppServer
from environments.real.smollm2 import checkpoint_directory, gguf_file
from sprint_agents.engine import Engine
from sprint_agents.engines import LocalEngine, OpenAIEngine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@dataclass(frozen=True)
class Place:
    """Where the model runs.

    ``make`` makes a new engine, which the caller closes. ``running`` counts the requests in progress there, without the
    engine's own books where a server has some.
    """

    make: Callable[[], Engine]
    running: Callable[[Engine], Awaitable[int]]

    async def idle(self, engine: Engine, *, within: float = 30.0) -> None:
        """Wait until nothing runs."""
        async with asyncio.timeout(within):
            running = await self.running(engine)
            while running:
                running = await self.running(engine)


@pytest.fixture(scope="session")
def gguf() -> Path:
    return gguf_file()


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    return checkpoint_directory()


@pytest.fixture(scope="session")
def llama_cpp(gguf: Path) -> Iterator[LlamaCppServer]:
    with LlamaCppServer(gguf) as server:
        yield server


@pytest.fixture(scope="session", params=["local", "llama.cpp"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "local":
        return embedded(request.getfixturevalue("checkpoint"))
    return served_by_llama_cpp(request.getfixturevalue("llama_cpp"))


def embedded(checkpoint: Path) -> Place:
    async def running(engine: Engine) -> int:
        assert isinstance(engine, LocalEngine)
        await asyncio.sleep(0)  # the count is of the last step, which a thread computes
        return engine.statistics().running

    return Place(lambda: LocalEngine(checkpoint, dtype="float32"), running)


def served_by_llama_cpp(server: LlamaCppServer) -> Place:
    async def running(engine: Engine) -> int:
        async with httpx2.AsyncClient(trust_env=False) as client:
            slots = (await client.get(f"{server.url}/slots")).raise_for_status().json()
        return sum(slot["is_processing"] for slot in slots)

    return Place(lambda: OpenAIEngine(f"{server.url}/v1", model=server.name, server="llama.cpp"), running)
