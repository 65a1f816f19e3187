"""One real SGLang server for the whole suite, in the environment that ``make sglang`` builds."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from sprint_agents.engines.sglang import SGLangEngine, SGLangServer

from .counters import Counters

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sglang" / "bin" / "python"
START_TIMEOUT = 1200.0  # half a minute of work, on a machine that may be busy otherwise


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.sglang)


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    if other := os.environ.get("SPRINT_TEST_CHECKPOINT"):
        return Path(other)
    from sprint_agents.nano import nano_path

    return nano_path()


@contextmanager
def started(checkpoint: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[SGLangServer]:
    """Start a separate server for some tests, and stop it at the end."""
    server = SGLangServer(
        checkpoint, python=PYTHON, arguments=arguments, environment=environment, start_timeout=START_TIMEOUT
    )
    try:
        asyncio.run(server.start())
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture(scope="session")
def server(checkpoint: Path) -> Iterator[SGLangServer]:
    with started(checkpoint, "--enable-metrics") as server:
        yield server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


Connect = Callable[..., AbstractAsyncContextManager[tuple[SGLangEngine, Counters]]]


@pytest.fixture
def connect(server: SGLangServer, checkpoint: Path) -> Connect:
    """An engine on the server, and the server's own counters; the server must be idle before and after."""

    @asynccontextmanager
    async def connection(**options: object) -> AsyncGenerator[tuple[SGLangEngine, Counters]]:
        async with Counters(server.url) as counters:
            await counters.idle()
            async with SGLangEngine(server.url, tokenizer=checkpoint, **options) as engine:  # type: ignore[arg-type]
                yield engine, counters
            await counters.idle()

    return connection
