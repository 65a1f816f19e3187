"""Whole completions that are requested at the same time are one request."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from sprint_agents.engine import Chunk, Hints
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.errors import EngineTimeout, EngineUnavailable

from .scripted import Act, Exchange, ScriptedServer, answers, completes, frame, name_of
from .test_engine import complete, joined, request

PROMPT = 3
TEXTS = {"r-1": "abc", "r-2": "d", "r-3": "ef"}
IDS = {name: [10 + ord(sign) - ord("a") for sign in text] for name, text in TEXTS.items()}
STOP: dict[str, Any] = {"type": "stop", "matched": 9}


def event(name: str, count: int, exchange: Exchange, **reason: object) -> str:
    """Write what a server sends of the request ``name`` after ``count`` tokens, all of them in one event."""
    sent = json.loads(frame(TEXTS[name][:count], IDS[name][:count], prompt=PROMPT, total=count, **reason))
    index = [name_of(rid) for rid in exchange.body["rid"]].index(name)
    return f"data: {json.dumps(sent | {'index': index})}\n\n"


def streams(*events: tuple[str, int, bool], then: Callable[[Exchange], Awaitable[None]] = Exchange.end) -> Act:
    """Send events, each a request's name, its tokens so far, and whether that is all."""

    async def act(exchange: Exchange) -> None:
        exchange.head(content_type="text/event-stream")
        for name, count, last in events:
            await exchange.send(event(name, count, exchange, **(STOP if last else {})).encode())
        await then(exchange)

    return act


def play(
    scene: Callable[[SGLangEngine, ScriptedServer], Awaitable[None]], *acts: Act, direct: bool = True, **options: Any
) -> ScriptedServer:
    server = ScriptedServer(acts=acts, server_info={} if direct else None)

    async def main() -> None:
        async with server, SGLangEngine(server.url, patience=0.0, **options) as engine:
            await scene(engine, server)

    asyncio.run(main())
    return server


async def all_of(engine: SGLangEngine, names: Sequence[str] = ("r-1", "r-2", "r-3"), **changes: Any) -> list[Any]:
    asked = [complete(engine, request(name=name, whole=True, **changes)) for name in names]
    return await asyncio.gather(*asked, return_exceptions=True)


def texts(found: Sequence[list[Chunk]]) -> list[str]:
    return [joined(chunks)[1] for chunks in found]


def test_each_has_its_own_events_and_its_own_end() -> None:
    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        found = await all_of(engine)
        assert [joined(chunks) for chunks in found] == [(IDS[name], text) for name, text in TEXTS.items()]
        assert [len(chunks) for chunks in found] == [2, 1, 1]
        assert {chunks[-1].finish for chunks in found if chunks[-1].finish.prompt_tokens != PROMPT} == set()

    server = play(scene, streams(("r-1", 1, False), ("r-3", 2, True), ("r-1", 3, True), ("r-2", 1, True)))
    (body,) = server.bodies("/generate")
    assert body["input_ids"] == [[1, 2, 3]] * 3
    assert [name_of(rid) for rid in body["rid"]] == [*TEXTS]
    assert [each["stream_interval"] for each in body["sampling_params"]] == [64] * 3
    assert body["stream"] is True
    assert server.aborts == []


def test_one_that_is_left_is_aborted_and_the_others_go_on() -> None:
    goes_on = asyncio.Event()

    async def rest(exchange: Exchange) -> None:
        await goes_on.wait()
        for name, count, reason in (("r-2", 1, {"type": "abort", "message": "Aborted"}), ("r-1", 3, STOP)):
            await exchange.send(event(name, count, exchange, **reason).encode())
        await exchange.end()

    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        missed: list[int] = []
        kept = asyncio.create_task(complete(engine, request(name="r-1", whole=True)))
        left = asyncio.create_task(complete(engine, request(name="r-2", whole=True, missed=missed.append)))
        await server.arrivals.get()
        left.cancel()
        await server.aborted.wait()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert missed == [1]
        assert joined(await kept) == (IDS["r-1"], TEXTS["r-1"])

    assert play(scene, streams(("r-1", 1, False), then=rest)).aborts == ["r-2"]


def test_an_aborted_one_says_how_much_it_had_generated() -> None:
    async def rest(exchange: Exchange) -> None:
        await exchange.send(event("r-1", 3, exchange, type="abort", message="Aborted").encode())
        await exchange.send(event("r-2", 1, exchange, **STOP).encode())
        await exchange.end()

    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        missed: list[int] = []
        aborted, other = await all_of(engine, ("r-1", "r-2"), missed=missed.append)
        assert isinstance(aborted, EngineUnavailable)
        assert "aborted" in str(aborted)
        assert joined(other) == (IDS["r-2"], "d")
        assert missed == [2]

    play(scene, streams(("r-1", 1, False), then=rest))


def test_a_server_that_knows_no_lists_gets_them_one_by_one() -> None:
    async def act(exchange: Exchange) -> None:
        refuses = isinstance(exchange.body["rid"], list)
        await (answers({"detail": "rid: invalid type"}, 422) if refuses else completes())(exchange)

    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        assert texts(await all_of(engine)) == ["abc"] * 3
        assert texts(await all_of(engine)) == ["abc"] * 3

    first, *others = play(scene, act).bodies("/generate")
    assert len(first["rid"]) == 3
    assert sorted(name_of(body["rid"]) for body in others) == sorted([*TEXTS, *TEXTS])


def test_a_broken_connection_is_resumed_by_each_alone() -> None:
    async def breaks(exchange: Exchange) -> None:
        exchange.die()

    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        first, second = await all_of(engine, ("r-1", "r-2"))
        assert joined(second) == (IDS["r-2"], "d")
        assert joined(first)[1] == "aabc"
        assert first[-1].finish.retries == 1

    class Decoding(ScriptedServer):
        def _decode(self, ids: list[int], skip_special: bool) -> str:
            return "".join(chr(number - 10 + ord("a")) for number in ids)

    server = Decoding(acts=[streams(("r-2", 1, True), ("r-1", 1, False), then=breaks), completes()], server_info={})

    async def main() -> None:
        async with server, SGLangEngine(server.url) as engine:
            await scene(engine, server)

    asyncio.run(main())
    _, resumed = server.bodies("/generate")
    assert resumed["input_ids"] == [1, 2, 3, *IDS["r-1"][:1]]


def test_a_router_gets_one_request_for_each() -> None:
    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        assert texts(await all_of(engine)) == ["abc"] * 3

    assert len(play(scene, completes(), direct=False).bodies("/generate")) == 3


def test_runs_are_not_mixed() -> None:
    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        hints = [Hints(run=run) for run in ("a", "b")]
        asked = [request(name=f"r-{number}", whole=True, hints=each) for number, each in enumerate(hints)]
        assert texts(await asyncio.gather(*(complete(engine, each) for each in asked))) == ["abc"] * 2

    assert len(play(scene, completes()).bodies("/generate")) == 2


def test_lists_of_the_user_are_sent_as_they_are() -> None:
    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        assert texts(await all_of(engine)) == ["abc"] * 3

    server = play(scene, completes(), extra={"token_ids_logprob": [4, 5]})
    assert [body["token_ids_logprob"] for body in server.bodies("/generate")] == [[4, 5]] * 3


def test_silence_fails_those_that_have_not_ended() -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        ended, silent = await all_of(engine, ("r-1", "r-2"))
        assert joined(ended)[1] == "abc"
        assert isinstance(silent, EngineTimeout)
        assert server.aborts == ["r-2"]

    play(scene, streams(("r-1", 3, True), then=Exchange.hold), read_timeout=0.3)


def test_all_that_are_left_at_once_close_the_connection() -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        tasks = [asyncio.create_task(complete(engine, request(name=name, whole=True))) for name in TEXTS]
        await server.arrivals.get()
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(found, asyncio.CancelledError) for found in await asyncio.gather(*tasks, return_exceptions=True)
        )

    server = play(scene, streams(then=Exchange.hold), abort_timeout=0.2)
    assert sorted(server.aborts) == [*TEXTS]
