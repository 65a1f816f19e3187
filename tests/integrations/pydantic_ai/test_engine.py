"""Completions of pydantic-ai's models: text, thoughts, calls, ends, aborts, and whole runs."""

import asyncio
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest
from structlog.testing import capture_logs

pytest.importorskip("pydantic_ai")
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from sprint_agents import Budget, Executor, Planner, Sprint
from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Finish, Request, Sampling, ToolBrief
from sprint_agents.engines.openai.conversation import CALLING_TURNS, CALLS, TURNS
from sprint_agents.errors import (
    BudgetExceeded,
    ConfigurationError,
    EngineRejected,
    EngineUnavailable,
    InvalidRequest,
)
from sprint_integrations.pydantic_ai import PydanticAIEngine
from tests.integrations.pydantic_ai.scripted import Asked, Call, Script, ScriptedModel, Thought

ASKED = f"{TURNS.open('system')}Be brief.{TURNS.close('system')}{TURNS.write([('user', 'How many?')])}\ufdd2"
TOOL = ToolBrief("look_up", "Look something up.", '{"type": "object", "properties": {"word": {"type": "string"}}}')


def request(text: str = ASKED, *, name: str = "r-1", max_tokens: int = 100, **changes: Any) -> Request:
    context = Context().extend(map(ord, text), text)
    return Request(id=name, context=context, max_tokens=max_tokens, sampling=Sampling(), **changes)


async def complete(engine: PydanticAIEngine, asked: Request | None = None) -> tuple[str, Finish]:
    """Return the text of a completion and its finish."""
    *parts, last = [part async for part in engine.complete(asked or request())]
    assert all(part.finish is None for part in parts)
    assert last.finish is not None
    text = "".join(part.text for part in [*parts, last])
    assert text == "".join(chr(number) for part in [*parts, last] for number in part.ids)
    return text, last.finish


def heard(model: ScriptedModel, asked: Request | None = None, **options: Any) -> tuple[str, Finish]:
    async def main() -> tuple[str, Finish]:
        async with PydanticAIEngine(model, **options) as engine:
            return await complete(engine, asked)

    found = asyncio.run(main())
    assert model.open == 0
    return found


class TestText:
    def test_a_completion_and_what_the_provider_counts(self) -> None:
        model = ScriptedModel(["4", " of", " them"])
        assert heard(model) == ("4 of them", Finish("stop", None, 40, 30, 50))
        (asked,) = model.asked
        assert [(part.part_kind, part.content) for part in asked.parts()] == [
            ("system-prompt", "Be brief."),
            ("user-prompt", "How many?"),
        ]

    @pytest.mark.parametrize(
        ("finish", "output", "reason"),
        [
            ("stop", 100, "stop"),
            ("length", 3, "length"),
            (None, 3, "stop"),
            (None, 100, "length"),
            ("tool_call", 9, "stop"),
        ],
    )
    def test_why_it_ends(self, finish: Any, output: int, reason: str) -> None:
        usage = RequestUsage(input_tokens=40, output_tokens=output)
        assert heard(ScriptedModel(["4"], finish=finish, usage=usage))[1] == Finish(reason, None, 40, 0, output)  # type: ignore[arg-type]

    def test_counts_that_are_missing_are_estimated(self) -> None:
        _, finish = heard(ScriptedModel(["four ", "of them here"], usage=RequestUsage()))
        assert finish == Finish("stop", None, 6, 0, 1 + 3)

    @pytest.mark.parametrize(("finish", "error"), [("content_filter", EngineRejected), ("error", EngineUnavailable)])
    def test_a_completion_that_is_none(self, finish: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            heard(ScriptedModel(["4"], finish=finish))

    def test_a_stop_text_ends_it_and_the_stream_is_left(self) -> None:
        left = asyncio.Event()

        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                left.set()

        counted = RequestUsage(input_tokens=40, cache_read_tokens=30, output_tokens=1)
        model = ScriptedModel([counted, "one </", "a> two", wait])
        assert heard(model, request(stop_texts=("</a>", "zero"))) == ("one </a>", Finish("stop", "</a>", 40, 30, 2))
        assert not left.is_set()
        assert "stop_sequences" not in model.asked[0].settings

    def test_nothing_is_sent_for_no_tokens(self) -> None:
        model = ScriptedModel(["4"])
        assert heard(model, request(max_tokens=0)) == ("", Finish("length", None, 6, 0, 0))
        assert not model.asked

    @pytest.mark.parametrize("text", ["", f"{ASKED}The", TURNS.write([("assistant", "4")])])
    def test_contexts_that_cannot_be_completed(self, text: str) -> None:
        with pytest.raises((InvalidRequest, ConfigurationError)):
            heard(ScriptedModel(["4"]), request(text))


class TestThoughts:
    def test_they_are_counted_and_not_part_of_the_text(self) -> None:
        async def main() -> list[Chunk]:
            model = ScriptedModel([Thought("so many words"), Thought("and more", "s"), "4"])
            async with PydanticAIEngine(model) as engine:
                return [part async for part in engine.complete(request())]

        parts = asyncio.run(main())
        assert [(part.text, part.tokens) for part in parts[:-1]] == [("", 3), ("", 2), ("4", 1)]

    def test_they_are_sent_back_with_their_signature_after_the_same_context(self) -> None:
        model = ScriptedModel([Thought("hm", "signed"), "4 ", "of them"])
        more = TURNS.write([("user", "Sure?")]) + TURNS.open("assistant")
        same = f"{ASKED}4 of them{TURNS.close('assistant')}{more}"

        def parts(text: str) -> list[Any]:
            return [
                part for message in asked_with(text).messages if message.kind == "response" for part in message.parts
            ]

        def asked_with(text: str) -> Asked:
            async def main() -> None:
                async with PydanticAIEngine(model) as engine:
                    await complete(engine)
                    await complete(engine, request(text))

            asyncio.run(main())
            return model.asked[-1]

        thought, words = parts(same)
        assert isinstance(thought, ThinkingPart)
        assert (thought.content, thought.signature, thought.provider_name) == ("hm", "signed", "scripted")
        assert words.content == "4 of them"
        # Not where the turn was cut or goes on, or where the context before it differs.
        assert [part.content for part in parts(same.replace("4 of them", "4 of"))] == ["4 of"]
        assert [part.content for part in parts(same.replace("4 of them", "4 of them!"))] == ["4 of them!"]
        assert [part.content for part in parts(same.replace("Be brief", "Be long"))] == ["4 of them"]

    def test_those_that_the_limit_cut_off_are_not(self) -> None:
        model = ScriptedModel([Thought("hm"), "4"], finish="length")

        async def main() -> None:
            async with PydanticAIEngine(model) as engine:
                await complete(engine)
                again = TURNS.write([("user", "Sure?")]) + TURNS.open("assistant")
                await complete(engine, request(f"{ASKED}4{TURNS.close('assistant')}{again}"))

        asyncio.run(main())
        assert [type(part) for part in model.asked[-1].messages[1].parts] == [TextPart]


class TestTools:
    def test_calls_are_the_last_text_and_their_results_are_tool_returns(self) -> None:
        call = Call("look_up", ['{"word": ', '"fork"}'], "call-7", {"signature": "s"})
        model = ScriptedModel(lambda asked: ["It is ", call] if len(asked.messages) == 1 else ["done"])

        async def main() -> str:
            async with PydanticAIEngine(model) as engine:
                text, finish = await complete(engine, request(tools=(TOOL,), may_call=True))
                assert finish.reason == "stop"
                turns = CALLING_TURNS
                results = f"{turns.open('tool')}a tool{turns.close('tool')}{turns.open('assistant')}"
                await complete(engine, request(f"{ASKED}{text}{turns.close('assistant')}{results}", tools=(TOOL,)))
            return text

        words, _, calls = asyncio.run(main()).partition(CALLS)
        assert words == "It is "
        assert '"name": "look_up"' in calls
        first, second = model.asked
        (tool,) = first.parameters.function_tools
        assert (tool.name, tool.description) == ("look_up", "Look something up.")
        assert tool.parameters_json_schema["properties"] == {"word": {"type": "string"}}
        response, returned = second.messages[1:]
        assert isinstance(response, ModelResponse)
        part = response.parts[1]
        assert isinstance(part, ToolCallPart)
        assert (part.tool_call_id, part.args, part.provider_details) == (
            "call-7",
            '{"word": "fork"}',
            {"signature": "s"},
        )
        (result,) = returned.parts
        assert isinstance(result, ToolReturnPart)
        assert (result.tool_name, result.tool_call_id, result.content) == ("look_up", "call-7", "a tool")

    def test_arguments_that_are_no_object_are_not_sent_back(self) -> None:
        call = Call("look_up", ["[1, "], "call-7", {"signature": "s"})
        model = ScriptedModel(lambda asked: [call] if len(asked.messages) == 1 else ["done"])

        async def main() -> None:
            async with PydanticAIEngine(model) as engine:
                text, _ = await complete(engine, request(tools=(TOOL,), may_call=True))
                again = f"{ASKED}{text}{TURNS.close('assistant')}{TURNS.open('assistant')}"
                await complete(engine, request(again, tools=(TOOL,)))

        asyncio.run(main())
        (part,) = model.asked[-1].messages[1].parts
        assert isinstance(part, ToolCallPart)
        assert part.args == "{}"
        assert "not called" in model.asked[-1].last

    @pytest.mark.parametrize("changes", [{}, {"tools": (TOOL,)}])
    def test_calls_that_are_not_allowed_are_left_out(self, changes: dict[str, Any]) -> None:
        model = ScriptedModel(["4", Call("look_up", ["{}"])])
        with capture_logs() as logs:
            assert heard(model, request(**changes))[0] == "4"
        assert "no calls" in logs[0]["note"]

    def test_an_engine_without_tools_offers_none(self) -> None:
        for options in ({"tools": "written"}, {}):
            model = ScriptedModel(["4"], supports_tools="tools" in options)
            assert not PydanticAIEngine(model, **options).capabilities.native_tools
            with pytest.raises(ConfigurationError, match="tools='native'"):
                heard(model, request(tools=(TOOL,)), **options)


class TestEnds:
    def test_leaving_the_stream_closes_it(self) -> None:
        closed: list[str] = []

        async def stream(messages: Any, info: AgentInfo) -> Any:
            try:
                while True:
                    yield "a"
                    await asyncio.sleep(0)
            finally:
                closed.append("closed")

        async def main() -> None:
            async with PydanticAIEngine(FunctionModel(stream_function=stream)) as engine:
                chunks = engine.complete(request())
                assert (await anext(chunks)).text == "a"
                await chunks.aclose()
                assert closed == ["closed"]
                reader = asyncio.create_task(complete(engine))
                await asyncio.sleep(0.01)
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
                assert closed == ["closed"] * 2

        asyncio.run(main())

    @pytest.mark.parametrize("script", [[], ["4"]])
    def test_an_abort_interrupts_the_wait_for_the_next_event(self, script: Script) -> None:
        async def main() -> None:
            waits = asyncio.Event()

            async def wait() -> None:
                waits.set()
                await asyncio.Event().wait()

            model = ScriptedModel([*script, wait])
            async with PydanticAIEngine(model) as engine:
                reader = asyncio.create_task(complete(engine))
                await waits.wait()
                await engine.abort("r-1")
                with pytest.raises(EngineUnavailable, match="aborted"):
                    await reader
                assert model.open == 0
                assert len(model.asked) == 1
                later = asyncio.create_task(complete(engine))
                waits.clear()
                await waits.wait()
            with pytest.raises(EngineUnavailable):
                await later
            with pytest.raises(EngineUnavailable, match="closed"):
                await complete(engine)

        asyncio.run(main())

    def test_an_abort_while_the_reader_does_something_else(self) -> None:
        async def main() -> None:
            async with PydanticAIEngine(ScriptedModel(["4", " of", " them"])) as engine:
                chunks = engine.complete(request())
                await anext(chunks)
                await engine.abort("r-1")
                with pytest.raises(EngineUnavailable, match="aborted"):
                    await anext(chunks)

        asyncio.run(main())


class TestRuns:
    def test_one_of_every_kind(self) -> None:
        model = ScriptedModel(play, usage=RequestUsage(input_tokens=500, cache_read_tokens=300, output_tokens=50))

        def look_up(word: str) -> str:
            return f"{word}: a tool"

        async def main() -> Any:
            async with PydanticAIEngine(model) as engine:
                executor = Executor(int, tools=[look_up])
                return await Sprint(engine, planner=Planner(str), executor=executor).run("How many?")

        run = asyncio.run(main())
        assert run.answer == "8"
        assert [each.value for each in run.stages[0].executions] == [4, 4]
        assert run.usage.tool_calls == 2
        assert (run.usage.cached_tokens, run.usage.prompt_tokens) == (300 * 6, 500 * 6)
        planner = [asked for asked in model.asked if "planner" in asked.last]
        thoughts = [part for part in planner[1].parts() if isinstance(part, ThinkingPart)]
        assert [thought.signature for thought in thoughts] == ["signed"]
        called = next(asked for asked in model.asked if "a tool" in asked.last)
        assert [type(part) for part in called.messages[-2].parts] == [ThinkingPart, ToolCallPart]

    def test_a_budget_holds(self) -> None:
        model = ScriptedModel(play)

        async def main() -> Any:
            async with PydanticAIEngine(model) as engine:
                sprint = Sprint(engine, planner=Planner(str), executor=Executor(int), budget=Budget(tokens=120))
                return await sprint.run("How many?")

        with pytest.raises(BudgetExceeded):
            asyncio.run(main())
        assert sum(asked.settings["max_tokens"] for asked in model.asked[:1]) <= 120

    def test_pydantic_ais_test_model(self) -> None:
        async def main() -> Any:
            async with PydanticAIEngine(TestModel(custom_output_text='{"answer": 42}')) as engine:
                return await Sprint(engine, planner=Planner(int)).run("How many?")

        assert asyncio.run(main()).answer == 42


def play(asked: Asked) -> Script:
    """Answer as a model that thinks, plans two subtasks and uses a tool in each, if there is one."""
    thought = Thought("hm", "signed")
    if "planner, stage 1" in asked.last:
        return [thought, '{"subtasks": [{"prompt": "one"}, ', '{"prompt": "two"}]}']
    if "planner" in asked.last:
        return [thought, '{"answer": "8"}']
    if asked.parameters.function_tools and "executor" in asked.last:
        return [thought, Call("look_up", ['{"word": "fork"}'])]
    return [thought, '{"result": 4}']


class TestConstruction:
    def test_a_package_that_is_not_installed(self) -> None:
        code = """
            import sys
            sys.modules["pydantic_ai"] = None
            import sprint_integrations.pydantic_ai as hosted
            try:
                hosted.PydanticAIEngine
            except ImportError as error:
                print(type(error).__name__, error)
            print(hasattr(hosted, "Engine"))
        """
        printed = subprocess.run(
            [sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True
        ).stdout
        assert printed.startswith("MissingExtra this needs pydantic-ai")
        assert "pip install 'sprint-agents[pydantic-ai]'" in printed
        assert printed.endswith("False\n")

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("no-such-provider:m", "no-such-provider"),
            ("gpt-5", "gpt-5"),
            ("openai:gpt-5", "OPENAI_API_KEY"),
            ("anthropic:claude-sonnet-4-5", "anthropic"),
        ],
    )
    def test_a_model_that_cannot_be_used(self, name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(ConfigurationError, match=words):
            PydanticAIEngine(name)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"settings": {"max_tokens": 9}}, "limit tokens with Limits"),
            ({"settings": {"tool_choice": "auto"}}, "tool_choice"),
            ({"settings": [("thinking", True)]}, "pass a dict"),
            ({"prefer": "speed"}, "'schemas' or 'cache'"),
            ({"tools": "all"}, "'native' or 'written'"),
            ({"patience": -1}, "at least 0"),
        ],
    )
    def test_options_that_cannot_be(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            PydanticAIEngine(TestModel(), **options)

    def test_what_it_can_do(self) -> None:
        engine = PydanticAIEngine(ScriptedModel([]))
        assert engine.name == "scripted:scripted"
        assert engine.manifest is None
        assert engine.capabilities.schemas
        assert engine.capabilities.native_tools
        assert not PydanticAIEngine(ScriptedModel([]), prefer="cache").capabilities.schemas
        assert not PydanticAIEngine(ScriptedModel([], supports_json_schema_output=False)).capabilities.schemas
