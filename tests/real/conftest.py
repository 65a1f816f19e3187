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
from sprint_agents.engines import LocalEngine, OpenAIEngine, SGLangEngine, SGLangServer
from tests.sglang.conftest import started
from tests.sglang.counters import Counters


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@dataclass(frozen=True)
class Place:
    """Where the model runs.

    ``make`` makes a new engine, which the caller closes. ``running`` counts the requests in progress there, without the
    engine's own books where a server has some. An ``exact`` engine computes a request the same way alone and among
    others; a server that batches requests rounds differently. A place ``bounds`` the length of texts if its schemas say
    so; elsewhere, this model may think up to its limit in each attempt.
    """

    make: Callable[[], Engine]
    running: Callable[[Engine], Awaitable[int]]
    exact: bool = False
    bounds: bool = True

    async def idle(self, engine: Engine, *, within: float = 60.0) -> None:
        """Wait until nothing runs; fails after ``within`` seconds, so that a request that is never ended is found."""
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


@pytest.fixture(scope="session")
def sglang(checkpoint: Path) -> Iterator[SGLangServer]:
    with started(checkpoint) as server:
        yield server


@pytest.fixture(scope="session", params=["local", "llama.cpp", "pydantic-ai", "sglang"])
def place(request: pytest.FixtureRequest) -> Place:
    return place_of(request.param, request)


@pytest.fixture(scope="session", params=["local", "llama.cpp"])
def fast_place(request: pytest.FixtureRequest) -> Place:
    """The places where a run takes seconds; SGLang takes minutes on a CPU, and thoughts are not bounded elsewhere."""
    return place_of(request.param, request)


def place_of(kind: str, request: pytest.FixtureRequest) -> Place:
    if kind == "local":
        return embedded(request.getfixturevalue("checkpoint"))
    if kind == "sglang":
        return served_by_sglang(request.getfixturevalue("sglang"), request.getfixturevalue("checkpoint"))
    server = request.getfixturevalue("llama_cpp")
    return served_by_llama_cpp(server) if kind == "llama.cpp" else asked_through_pydantic_ai(server)


def embedded(checkpoint: Path) -> Place:
    async def running(engine: Engine) -> int:
        assert isinstance(engine, LocalEngine)
        await asyncio.sleep(0)  # the count is of the last step, which a thread computes
        return engine.statistics().running

    return Place(lambda: LocalEngine(checkpoint), running, exact=True)


def served_by_llama_cpp(server: LlamaCppServer) -> Place:
    def make() -> Engine:
        return OpenAIEngine(f"{server.url}/v1", model=server.name, server="llama.cpp")

    return Place(make, lambda _: busy_slots(server))


def asked_through_pydantic_ai(server: LlamaCppServer) -> Place:
    """Ask as hosted models are asked: with pydantic-ai's own client of OpenAI's API."""
    pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from sprint_integrations.pydantic_ai import PydanticAIEngine

    def make() -> Engine:
        provider = OpenAIProvider(base_url=f"{server.url}/v1", api_key="none")
        return PydanticAIEngine(OpenAIChatModel(server.name, provider=provider))

    return Place(make, lambda _: busy_slots(server), bounds=False)  # OpenAI's schemas have no lengths


async def busy_slots(server: LlamaCppServer) -> int:
    async with httpx2.AsyncClient(trust_env=False) as client:
        slots = (await client.get(f"{server.url}/slots")).raise_for_status().json()
    return sum(slot["is_processing"] for slot in slots)


def served_by_sglang(server: SGLangServer, checkpoint: Path) -> Place:
    async def running(engine: Engine) -> int:
        async with Counters(server.url) as counters:
            return (await counters.load()).requests

    return Place(lambda: SGLangEngine(server.url, tokenizer=checkpoint), running)
