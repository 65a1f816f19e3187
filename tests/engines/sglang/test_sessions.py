"""A run is a session where the server has them: opened before its first request, closed at its end."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from sprint_agents.engine import Hints
from sprint_agents.engines.sglang import SGLangEngine, sessions

from .scripted import ScriptedServer, completes
from .test_engine import complete, request

INFO = {"enable_session_radix_cache": True}
_numbers = count()


async def solve(engine: SGLangEngine, run: str) -> None:
    await complete(engine, replace(request(name=f"session-{next(_numbers)}"), hints=Hints(run=run)))


def sent(server: ScriptedServer) -> Iterator[tuple[str, str | None]]:
    """Yield what the server was asked for, and the session that each belongs to."""
    asked = {"/open_session": "open", "/generate": "generate", "/close_session": "close"}
    for exchange in server.exchanges:
        if exchange.path in asked and "logit_bias" not in exchange.body.get("sampling_params", {}):
            yield asked[exchange.path], exchange.body.get("session_id")


def test_it_is_opened_before_the_first_request_and_closed_at_the_end() -> None:
    async def main() -> None:
        async with ScriptedServer([completes()], server_info=INFO) as server:
            async with SGLangEngine(server.url, session_timeout=60.0) as engine:
                await solve(engine, "run-1")
                await solve(engine, "run-1")
                await engine.end_run("run-1")
                await engine.end_run("resumed elsewhere")
            assert [*sent(server)] == [
                ("open", "run-1"),
                ("generate", "run-1"),
                ("generate", "run-1"),
                ("close", "run-1"),
                ("close", "resumed elsewhere"),
            ]
            (body,) = server.bodies("/open_session")
            assert body["timeout"] == 60.0

    asyncio.run(main())


def test_requests_that_begin_together_wait_until_it_is_open() -> None:
    async def main() -> None:
        async with ScriptedServer([completes()], server_info=INFO) as server, SGLangEngine(server.url) as engine:
            await asyncio.gather(*(solve(engine, "run-1") for _ in range(3)))
            assert [*sent(server)] == [("open", "run-1"), *[("generate", "run-1")] * 3]

    asyncio.run(main())


def test_a_run_that_continues_another_one_opens_it_again() -> None:
    async def main() -> None:
        async with ScriptedServer([completes()], server_info=INFO) as server, SGLangEngine(server.url) as engine:
            for _ in range(2):
                await solve(engine, "run-1")
                await engine.end_run("run-1")
            assert [each for each, _ in sent(server)] == ["open", "generate", "close"] * 2

    asyncio.run(main())


def test_a_run_that_lasts_longer_opens_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(step=40)
    monkeypatch.setattr(sessions, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))

    async def main() -> None:
        async with ScriptedServer([completes()], server_info=INFO) as server:
            async with SGLangEngine(server.url, session_timeout=60.0) as engine:
                for _ in range(4):
                    await solve(engine, "run-1")
            assert [each for each, _ in sent(server)].count("open") == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "info"),
    [({}, {}), ({}, None), ({"extra": {"session_id": "mine"}}, INFO)],
    ids=["not enabled", "not known", "the user's own"],
)
def test_there_is_none(options: dict[str, Any], info: object) -> None:
    async def main() -> None:
        async with ScriptedServer([completes()], server_info=info) as server:
            async with SGLangEngine(server.url, **options) as engine:
                await solve(engine, "run-1")
                await engine.end_run("run-1")
            assert [*sent(server)] == [("generate", options.get("extra", {}).get("session_id"))]

    asyncio.run(main())


def test_a_server_that_opens_none_fails_no_request() -> None:
    async def main() -> None:
        async with ScriptedServer([completes()], server_info=INFO, sessions=False) as server:
            async with SGLangEngine(server.url, patience=0) as engine:
                await solve(engine, "run-1")
            assert [each for each, _ in sent(server)] == ["open", "generate"]

    asyncio.run(main())
