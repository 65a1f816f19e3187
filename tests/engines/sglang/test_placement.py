"""Which rank or worker a request goes to, and what else goes with it."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from sprint_agents import Sampling, State
from sprint_agents.engine import Chunk, Hints
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.errors import ConfigurationError, EngineUnavailable
from sprint_agents.nano import nano_path

from .scripted import Exchange, ScriptedServer, answers, begins, completes
from .test_engine import breaks, complete, request

KEY = "x-smg-routing-key"


def sent(*runs: str, info: object = None, critical: bool = True, **options: Any) -> list[Exchange]:
    """Complete a request of each of ``runs``, in order; return what the server received."""

    async def main() -> list[Exchange]:
        async with ScriptedServer([completes()], server_info=info) as server:
            async with SGLangEngine(server.url, **options) as engine:
                for number, run in enumerate(runs):
                    asked = replace(request(name=f"r-{number}"), hints=Hints(run=run, critical=critical))
                    await complete(engine, asked)
            return [exchange for exchange in server.exchanges if "rid" in (exchange.body or {})]

    return asyncio.run(main())


class TestRanks:
    def test_a_run_stays_on_its_rank_and_runs_take_turns(self) -> None:
        found = sent(*"abcabcbca", info={"dp_size": 3})
        ranks = {run: exchange.body["routed_dp_rank"] for run, exchange in zip("abc", found, strict=False)}
        assert sorted(ranks.values()) == [0, 1, 2]
        assert [exchange.body["routed_dp_rank"] for exchange in found] == [ranks[run] for run in "abcabcbca"]

    def test_a_new_run_goes_where_least_is_running(self) -> None:
        async def main() -> None:
            async with (
                ScriptedServer([begins(then=Exchange.hold)], server_info={"dp_size": 2}) as server,
                SGLangEngine(server.url) as engine,
            ):
                streams: list[AsyncGenerator[Chunk]] = []
                for name, run in (("r-1", "a"), ("r-2", "b"), ("r-3", "b"), ("r-4", "c"), ("r-5", "d")):
                    streams.append(engine.complete(replace(request(name=name), hints=Hints(run=run))))
                    await anext(streams[-1])
                ranks = [body["routed_dp_rank"] for body in server.bodies("/generate")]
                assert ranks[1] == ranks[2] != ranks[0] == ranks[3]
                for stream in streams:
                    await stream.aclose()

        asyncio.run(main())

    @pytest.mark.parametrize("info", [None, {"dp_size": 1}, {"version": "x"}, [], {"dp_size": "many"}])
    def test_one_rank_is_not_named(self, info: object) -> None:
        assert "routed_dp_rank" not in sent("a", info=info)[0].body

    def test_without_a_run_the_server_chooses(self) -> None:
        assert "routed_dp_rank" not in sent("", info={"dp_size": 2})[0].body

    def test_a_resumed_stream_stays_there(self) -> None:
        async def main() -> None:
            acts = [breaks("a", b"a"), completes()]
            async with ScriptedServer(acts, server_info={"dp_size": 2}) as server, SGLangEngine(server.url) as engine:
                await complete(engine, replace(request([1, 2, 3]), hints=Hints(run="a")))
                assert len({body["routed_dp_rank"] for body in server.bodies("/generate")}) == 1

        asyncio.run(main())


class TestRouters:
    def test_all_requests_of_a_run_have_one_key(self) -> None:
        assert [exchange.headers[KEY] for exchange in sent("a", "b", "a")] == ["a", "b", "a"]
        assert KEY not in sent("")[0].headers

    def test_the_branches_of_a_state_are_of_one_run(self) -> None:
        async def main() -> None:
            async with ScriptedServer([completes()]) as server, SGLangEngine(server.url) as engine:
                for _ in range(2):
                    state = State(engine, sampling=Sampling())
                    await state.append("ab")
                    await state.branch().generate(max_tokens=3)
                    await state.branch().branch().generate(max_tokens=3)
                keys = [exchange.headers[KEY] for exchange in server.exchanges if "rid" in (exchange.body or {})]
            assert keys[0] == keys[1] != keys[2] == keys[3]

        asyncio.run(main())


class TestPriorities:
    @pytest.mark.parametrize(
        ("info", "critical", "priority"),
        [
            ({"enable_priority_scheduling": True}, True, 1),
            ({"enable_priority_scheduling": True}, False, 0),
            ({"enable_priority_scheduling": True, "schedule_low_priority_values_first": True}, True, 0),
            ({"enable_priority_scheduling": True, "schedule_low_priority_values_first": True}, False, 1),
            ({"enable_priority_scheduling": False}, True, None),
            (None, True, None),
        ],
    )
    def test_what_others_wait_for_comes_first(self, info: object, critical: bool, priority: int | None) -> None:
        assert sent("a", info=info, critical=critical)[0].body.get("priority") == priority


class TestExtra:
    def test_is_sent_with_each_completion(self) -> None:
        extra = {"lora_path": "planner", "extra_key": "tenant", "sampling_params": {"min_p": 0.1}}
        body = sent("a", extra=extra)[0].body
        assert (body["lora_path"], body["extra_key"]) == ("planner", "tenant")
        assert (body["sampling_params"]["min_p"], body["sampling_params"]["max_new_tokens"]) == (0.1, 20)

    @pytest.mark.parametrize(("extra", "weights"), [({"lora_path": "planner"}, "planner"), ({"extra_key": "a"}, None)])
    def test_an_adapter_makes_another_model(self, extra: Any, weights: str | None) -> None:
        assert SGLangEngine("http://127.0.0.1:1", extra=extra).capabilities.weights == weights

    def test_takes_precedence_over_the_placement(self) -> None:
        assert sent("a", info={"dp_size": 4}, extra={"routed_dp_rank": 3})[0].body["routed_dp_rank"] == 3

    @pytest.mark.parametrize("extra", [{"rid": "x"}, {"sampling_params": {"n": 2}}, {"sampling_params": 1}])
    def test_has_no_field_of_the_engine(self, extra: Any) -> None:
        with pytest.raises(ConfigurationError, match="extra has"):
            SGLangEngine("http://127.0.0.1:1", extra=extra)

    def test_headers_go_with_every_request(self) -> None:
        async def main() -> None:
            async with ScriptedServer([answers("busy", 503), completes()]) as server:
                async with SGLangEngine(server.url, headers={"x-tenant": "me"}) as engine:
                    await complete(engine)
                assert {exchange.headers["x-tenant"] for exchange in server.exchanges} == {"me"}

        asyncio.run(main())


class RankedRouter(ScriptedServer):
    """Answers as sglang-router 0.3.2 does with ``--dp-aware``."""

    async def _act(self, exchange: Exchange) -> None:
        if exchange.path == "/get_model_info":
            await exchange.answer({"error": {"message": "error sending request for url (http://0.0.0.0)"}}, 500)
        elif exchange.path == "/model_info":
            await exchange.answer("", 404)
        else:
            await super()._act(exchange)


def test_a_router_that_does_not_know_its_model(tmp_path: Path) -> None:
    copytree(nano_path(), tmp_path / "mine")

    async def main() -> None:
        async with RankedRouter(acts=[completes()]) as server:
            async with SGLangEngine(server.url, tokenizer=tmp_path / "mine") as engine:
                assert engine.name == "sglang:mine"
                assert [chunk.ids for chunk in await complete(engine)] == [[7], [8], [9]]
            with pytest.raises(EngineUnavailable, match="--dp-aware, give tokenizer="):
                await SGLangEngine(server.url, patience=0).model()

    asyncio.run(main())
