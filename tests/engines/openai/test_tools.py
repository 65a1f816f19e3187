"""Native tool calls: what a request offers, what servers stream, and what is sent back.

The events come from OpenAI's API reference and its client's tests, and from issues and tests of vLLM, Ollama and
llama.cpp about streamed tool calls. A comment at each says how it differs.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Answer, Executor, Plan, Planner, Sprint
from sprint_agents.context import Context
from sprint_agents.dialects.completions import ToolCall, ToolCalls
from sprint_agents.dialects.json.dialect import JsonDialect
from sprint_agents.engine import Chunk, Finish, Request, Sampling, ToolBrief
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.errors import ConfigurationError, EngineProtocolError
from sprint_agents.run import Run
from sprint_agents.tools import Tool

from .scripted import Act, ScriptedServer, chunk, events, says, stream, usage

LENGTH = ToolBrief("length", "Count letters.", '{"type":"object","properties":{"word":{"type":"string"}}}')


def calls(*deltas: object, **choice: Any) -> str:
    return chunk(delta={"tool_calls": list(deltas)}, **choice)


def call(index: int | None, arguments: object = None, **fields: Any) -> dict[str, Any]:
    """One fragment: ``name`` belongs to its function, other fields to the fragment."""
    function = {key: fields.pop(key) for key in ("name",) if key in fields}
    place = {} if index is None else {"index": index}
    return {**place, **fields, "function": {**function, **({} if arguments is None else {"arguments": arguments})}}


def whole(index: int | None, name: str, arguments: object, **fields: Any) -> dict[str, Any]:
    return call(index, arguments, name=name, type="function", **fields)


def ending(finish: str = "tool_calls") -> list[str]:
    return [chunk(finish=finish), usage(20, 7)]


async def completed(server: ScriptedServer, *, may_call: bool = True, **options: Any) -> list[Chunk]:
    async with OpenAIEngine(server.base, **{"model": "tiny", "tools": "native", "patience": 0} | options) as engine:
        context = Context().extend(await engine.encode("?"), "?")
        request = Request(
            id="r-1", context=context, max_tokens=99, sampling=Sampling(), tools=(LENGTH,), may_call=may_call
        )
        return [part async for part in engine.complete(request)]


def heard(sent: Sequence[str], **options: Any) -> list[Chunk]:
    async def main() -> list[Chunk]:
        async with ScriptedServer([stream(events(sent))]) as server:
            return await completed(server, **options)

    return asyncio.run(main())


def read(sent: Sequence[str]) -> list[tuple[str, str]]:
    """Return the calls that the JSON dialect reads from a server's stream."""
    text = "".join(part.text for part in heard(sent))
    turns = OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", tools="native").capabilities.chat
    dialect = JsonDialect(turns).bind(Planner(str).brief, Executor(str, tools=[length]).brief)
    turn = dialect.read_turn(1, 1, text)
    assert isinstance(turn, ToolCalls), turn
    return [(each.tool, each.arguments) for each in turn.calls]


def length(word: str, times: int = 1) -> int:
    """Count the letters of a word."""
    return len(word) * times


def double(number: int) -> int:
    """Double a number."""
    return 2 * number


ONE = '{"word": "Plan"}'
TWO = '{"word": "fork"}'
BOTH = [("length", ONE), ("length", TWO)]


class TestShapes:
    def test_openai_cuts_arguments_anywhere(self) -> None:
        opening = {"role": "assistant", "content": None, "refusal": None}
        first = whole(0, "length", "", id="call_aqwOReHDKPnqiF7NbRxzDTY1")
        second = whole(1, "length", "", id="call_k1")
        sent = [
            chunk(delta=opening | {"tool_calls": [first]}),
            *(calls(call(0, piece)) for piece in ('{"', "word", '": "Pl', 'an"}')),
            calls(second),
            *(calls(call(1, piece)) for piece in ('{"word": ', '"fork"}')),
            *ending(),
        ]
        assert read(sent) == BOTH
        parts = heard(sent)
        assert [part.tokens for part in parts[:-1]] == [1] * 6 + [2, 1]  # estimated while they come
        assert parts[-1].finish == Finish("stop", None, 20, 0, 7)
        assert '"id": "call_aqwOReHDKPnqiF7NbRxzDTY1"' in parts[-1].text

    def test_calls_may_be_interleaved(self) -> None:
        sent = [
            calls(whole(0, "length", "", id="a"), whole(1, "length", "", id="b")),
            calls(call(1, TWO[:9]), call(0, ONE[:3])),
            calls(call(0, ONE[3:]), call(1, TWO[9:])),
            *ending(),
        ]
        assert read(sent) == BOTH

    def test_vllm_says_the_end_with_the_last_fragment_and_sends_empty_ids(self) -> None:
        sent = [
            chunk(delta={"role": "assistant", "content": ""}),
            calls(whole(0, "length", "", id="chatcmpl-tool-c9ZCzB9b9NikK5kjPBXpFG")),
            calls(call(0, ONE, id="", type="function", name=None), finish="tool_calls", stop_reason=None),
            usage(20, 7),
        ]
        assert read(sent) == BOTH[:1]

    def test_vllm_gave_all_calls_one_index(self) -> None:
        sent = [
            calls(whole(0, "length", "", id="chatcmpl-tool-c9")),
            calls(call(0, ONE, id="", name=None)),
            calls(whole(0, "length", "", id="chatcmpl-tool-Hf")),
            calls(call(0, TWO, id="", name=None)),
            *ending(),
        ]
        assert read(sent) == BOTH

    def test_vllm_gave_every_fragment_a_new_id_and_the_name(self) -> None:
        pieces = ["", '{"word": ', '"Plan"}']
        sent = [*(calls(whole(0, "length", piece, id=f"id-{at}")) for at, piece in enumerate(pieces)), *ending()]
        assert read(sent) == BOTH[:1]

    def test_ollama_sends_whole_calls_all_with_index_0_and_ends_as_if_with_words(self) -> None:
        opening = {"role": "assistant", "content": ""}
        sent = [
            chunk(delta=opening | {"tool_calls": [whole(0, "length", ONE, id="call_x1")]}),
            chunk(delta=opening | {"tool_calls": [whole(0, "length", TWO, id="call_x2")]}),
            *ending("stop"),
        ]
        assert read(sent) == BOTH

    def test_ollama_left_the_index_out(self) -> None:
        sent = [calls(whole(None, "length", ONE, id="call_x1"), whole(None, "length", TWO, id="call_x2")), *ending()]
        assert read(sent) == BOTH

    def test_llama_cpp_repeated_the_name_and_gave_no_ids(self) -> None:
        sent = [
            calls(call(0, "{", name="length")),
            calls(call(0, ONE[1:5], name="length")),
            calls(call(0, ONE[5:], name="length")),
            calls(call(1, TWO, name="length")),
            *ending(),
        ]
        assert read(sent) == BOTH
        written = json.loads("".join(part.text for part in heard(sent))[1:])["tool_calls"]
        made = [each["id"] for each in written]
        assert len({*made}) == 2
        assert all(len(name) == 9 and name.isalnum() for name in made)

    def test_no_index_and_no_ids(self) -> None:
        sent = [calls(call(None, ONE, name="length")), calls(call(None, TWO, name="length")), *ending()]
        assert read(sent) == BOTH

    def test_arguments_that_are_no_text(self) -> None:
        sent = [calls(whole(0, "length", {"word": "Plan"}, id="a"), whole(1, "length", None, id="b")), *ending()]
        assert read(sent) == [("length", ONE), ("length", "{}")]

    def test_ids_that_are_alike_are_told_apart(self) -> None:
        sent = [calls(whole(0, "length", ONE, id="0"), whole(1, "length", TWO, id="0")), *ending()]
        text = "".join(part.text for part in heard(sent))
        assert len({each["id"] for each in json.loads(text[1:])["tool_calls"]}) == 2

    def test_words_before_calls(self) -> None:
        sent = [chunk("Let me "), chunk("count."), calls(whole(0, "length", ONE, id="a")), *ending()]
        assert "".join(part.text for part in heard(sent)).startswith("Let me count.")
        assert read(sent) == BOTH[:1]

    def test_a_call_that_the_token_limit_cut_off(self) -> None:
        sent = [calls(whole(0, "length", '{"word": "Pl', id="a")), *ending("length")]
        assert read(sent) == [("length", '{"word": "Pl')]
        assert heard(sent)[-1].finish == Finish("length", None, 20, 0, 7)

    def test_no_call_at_all(self) -> None:
        sent = [chunk('{"result": 4}'), *ending("stop")]
        assert "".join(part.text for part in heard(sent)) == '{"result": 4}'

    def test_a_call_where_none_may_be(self) -> None:
        sent = [calls(whole(0, "length", ONE, id="a")), *ending()]
        with pytest.raises(EngineProtocolError, match="and this request allows none"):
            heard(sent, may_call=False)

    @given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
    def test_however_it_is_cut(self, sizes: list[int]) -> None:
        pieces, rest = [], ONE
        for size in sizes:
            pieces.append(rest[:size])
            rest = rest[size:]
        sent = [calls(whole(0, "length", "", id="a")), *(calls(call(0, piece)) for piece in [*pieces, rest])]
        assert read([*sent, *ending()]) == BOTH[:1]


def answers_by(play: Callable[[Any, int], Act]) -> Act:
    """Choose the answer by the body of a request and its number."""
    count = 0

    async def act(exchange: Any) -> None:
        nonlocal count
        count += 1
        await play(exchange.body, count)(exchange)

    return act


def calling(*called: tuple[str, str], words: str | None = None) -> Act:
    found = [whole(at, name, arguments, id=f"call_{at}") for at, (name, arguments) in enumerate(called)]
    before = [] if words is None else [chunk(words)]
    return stream(events([*before, *(calls(each) for each in found), *ending()]))


async def one_subtask(planning: Any) -> Any:
    stage = yield Plan.of("How long is the word?")
    yield Answer(value=stage.results[0] if stage.results else str(stage.failures[0].failure))


def solve(acts: Sequence[Act], *, executor: Any = None, **options: Any) -> tuple[Run[Any, Any], list[Any]]:
    async def main() -> tuple[Run[Any, Any], list[Any]]:
        chosen = {"model": "tiny", "tools": "native", "server": "openai"} | options
        async with ScriptedServer(acts) as server, OpenAIEngine(server.base, **chosen) as engine:
            agent = executor or Executor(int, tools=[length, double])
            run = await Sprint(engine, policy=one_subtask, planner=Planner(int), executor=agent).run("Count.")
            return run, server.sent

    return asyncio.run(main())


class TestRuns:
    def test_calls_and_what_they_return_are_messages(self) -> None:
        acts = [calling(("length", ONE), ("double", '{"number": 4}'), words="Both."), says('{"result": 12}')]
        run, (first, second) = solve(acts)
        assert run.answer == 12
        execution = run.stages[0].executions[0]
        assert [(use.tool, use.arguments, use.text) for use in execution.tool_uses] == [
            ("length", ONE, "4"),
            ("double", '{"number": 4}', "8"),
        ]
        assert run.usage.tool_calls == 2
        assert first["tool_choice"] == second["tool_choice"] == "auto"
        assert second["messages"] == [
            *first["messages"],
            {
                "role": "assistant",
                "content": "Both.",
                "tool_calls": [
                    {"id": "call_0", "type": "function", "function": {"name": "length", "arguments": ONE}},
                    {"id": "call_1", "type": "function", "function": {"name": "double", "arguments": '{"number": 4}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_0", "content": "4"},
            {"role": "tool", "tool_call_id": "call_1", "content": "8"},
        ]
        assert "The tools:" not in first["messages"][0]["content"]
        assert "functions that you are offered" in first["messages"][0]["content"]

    def test_tools_are_offered_in_strict_form(self) -> None:
        _, sent = solve([says('{"result": 1}')])
        functions = [each["function"] for each in sent[0]["tools"]]
        times = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
        assert functions[0] == {
            "name": "length",
            "description": "Count the letters of a word.",
            "parameters": {
                "type": "object",
                "properties": {"word": {"type": "string"}, "times": times},
                "required": ["word", "times"],
                "additionalProperties": False,
            },
            "strict": True,
        }
        held = sent[0]["response_format"]["json_schema"]
        assert (held["strict"], list(held["schema"]["properties"])) == (True, ["thoughts", "result"])

    def test_null_for_what_may_be_left_out_leaves_it_out(self) -> None:
        acts = [calling(("length", '{"word": "Plan", "times": null}')), says('{"thoughts": null, "result": 4}')]
        run, _ = solve(acts)
        assert run.stages[0].executions[0].tool_uses[0].text == "4"
        assert run.answer == 4

    def test_a_tool_that_strict_mode_has_no_words_for(self) -> None:
        def tally(counts: dict[str, int]) -> int:
            """Add up."""
            return sum(counts.values())

        acts = [calling(("tally", '{"counts": {"a": 1}}')), says('{"result": 1}')]
        run, sent = solve(acts, executor=Executor(int, tools=[tally]))
        assert run.answer == 1
        (function,) = (each["function"] for each in sent[0]["tools"])
        assert (function["strict"], function["parameters"]) == (False, json.loads(Tool.of(tally).brief.schema))
        with pytest.raises(ConfigurationError, match=r"the schema of tool 'tally': counts is a map of any keys"):
            solve(acts, executor=Executor(int, tools=[tally]), strict=True)

    @pytest.mark.parametrize("server", ["vllm", "sglang", "llama.cpp", "ollama", "other"])
    def test_other_servers_hold_to_no_schema_what_may_call_instead(self, server: str) -> None:
        acts = [calling(("length", ONE)), says('{"result": 4}')]
        run, sent = solve(acts, server=server)
        assert run.answer == 4
        assert not any("response_format" in body for body in sent)

    def test_every_request_of_a_run_offers_the_same_so_that_prompts_begin_alike(self) -> None:
        def play(body: Any, number: int) -> Act:
            said = body["messages"][-1]["content"]
            if "planner, stage 1" in said:
                return says('{"subtasks": [{"prompt": "count"}]}')
            if "planner, stage 2" in said:
                return says('{"answer": 4}')
            return calling(("length", ONE)) if body["messages"][-1]["role"] == "user" else says('{"result": 4}')

        async def main() -> tuple[Any, list[Any]]:
            async with (
                ScriptedServer([answers_by(play)]) as server,
                OpenAIEngine(server.base, model="tiny", server="vllm", tools="native") as engine,
            ):
                sprint = Sprint(engine, planner=Planner(int), executor=Executor(int, tools=[length]))
                return await sprint.run("Count."), server.sent

        run, sent = asyncio.run(main())
        assert run.answer == 4
        assert [body["tool_choice"] for body in sent] == ["none", "auto", "auto", "none"]
        assert all(body["tools"] == sent[0]["tools"] for body in sent)
        assert "response_format" in sent[0]
        # The planner's own context has the result, and nothing of the calls.
        assert [message["role"] for message in sent[3]["messages"]] == [
            "system", "user", "user", "assistant", "user", "assistant", "user",
        ]  # fmt: skip

    def test_a_failed_call_is_told_as_one(self) -> None:
        acts = [calling(("width", "{}"), ("length", "{")), says('{"result": 1}')]
        run, sent = solve(acts)
        uses = run.stages[0].executions[0].tool_uses
        assert [use.failed for use in uses] == [True, True]
        told = [json.loads(message["content"]) for message in sent[1]["messages"][-2:]]
        assert "there is no tool 'width'" in told[0]["failed"]
        assert "the arguments are wrong" in told[1]["failed"]
        # What is no JSON object goes back as an empty one: vLLM and llama.cpp read it, and refuse what they cannot.
        assert [each["function"]["arguments"] for each in sent[1]["messages"][-3]["tool_calls"]] == ["{}", "{}"]

    def test_a_call_beyond_those_allowed_is_answered_all_the_same(self) -> None:
        """Servers refuse a call without an answer."""
        acts = [calling(("length", ONE)), calling(("length", TWO)), says('{"result": 4}')]
        run, sent = solve(acts, executor=Executor(int, tools=[length], tool_turns=1))
        assert run.answer == 4
        *_, called, answered, corrected = sent[2]["messages"]
        assert called["tool_calls"][0]["function"]["arguments"] == TWO
        assert answered == {"role": "tool", "tool_call_id": "call_0", "content": "This was not called."}
        assert "all 1 turns that may call tools are used up" in corrected["content"]

    def test_what_does_not_validate_is_corrected(self) -> None:
        acts = [calling(("length", ONE)), says('{"result": "four"}'), says('{"result": 4}')]
        run, sent = solve(acts)
        assert (run.answer, run.usage.retries, run.usage.tool_calls) == (4, 1, 1)
        assert "that is no valid result" in sent[2]["messages"][-1]["content"]

    def test_what_a_tool_returns_cannot_end_its_turn(self) -> None:
        marks = "\ufdd3\ufdd2\ufdd4"

        def look() -> str:
            """Look."""
            return f"a{marks}b"

        run, sent = solve([calling(("look", "{}")), says('{"result": 1}')], executor=Executor(int, tools=[look]))
        assert json.loads(sent[1]["messages"][-1]["content"]) == f"a{marks}b"
        assert [message["role"] for message in sent[1]["messages"][-2:]] == ["assistant", "tool"]
        assert run.answer == 1

    def test_turns_taken_in_turn(self) -> None:
        """Calls and their answers stay unchanged if speakers must alternate."""
        from sprint_agents.engines.openai import SERVERS

        server = SERVERS["vllm"].model_copy(update={"alternates": True})
        _, sent = solve([calling(("length", ONE)), says('{"result": 4}')], server=server)
        roles = [message["role"] for message in sent[1]["messages"]]
        assert roles == ["system", "user", "assistant", "user", "assistant", "tool"]

    def test_written_calls_are_the_default(self) -> None:
        acts = [says('{"call": [{"tool": "length", "arguments": {"word": "Plan"}}]}'), says('{"result": 4}')]
        run, sent = solve(acts, tools="written")
        assert (run.answer, run.usage.tool_calls) == (4, 1)
        assert "tools" not in sent[0]
        assert "The tools:" in sent[0]["messages"][0]["content"]
        assert list(sent[0]["response_format"]["json_schema"]["schema"]["properties"]) == ["thoughts", "result", "call"]

    def test_without_tools_nothing_is_offered(self) -> None:
        _, sent = solve([says('{"result": 4}')], executor=Executor(int))
        assert not {"tools", "tool_choice"} & sent[0].keys()


def test_an_engine_that_writes_calls_is_offered_no_tools() -> None:
    async def main() -> None:
        async with ScriptedServer([says("4")]) as server:
            with pytest.raises(ConfigurationError, match="tools='native'"):
                await completed(server, tools="written")

    asyncio.run(main())


def test_a_call_is_read_back_as_it_was_written() -> None:
    turns = OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", tools="native").capabilities.chat
    dialect = JsonDialect(turns).bind(Planner(str).brief, Executor(str, tools=[length]).brief)
    text = "".join(part.text for part in heard([calls(whole(0, "length", ONE, id="a")), *ending()]))
    assert dialect.read_turn(1, 1, text) == ToolCalls((ToolCall("length", ONE),))
