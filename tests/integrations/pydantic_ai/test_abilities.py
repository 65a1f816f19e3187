"""The settings and parameters of requests: what a model refuses is left out, and forks hit the provider's cache."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")
from openai import AsyncOpenAI
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers.deepseek import DeepSeekProvider
from pydantic_ai.providers.openai import OpenAIProvider

from sprint_agents import Executor, Planner, Sprint
from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling, ToolBrief
from sprint_agents.engines.openai.conversation import TURNS, conversation_of
from sprint_integrations.pydantic_ai import PydanticAIEngine
from sprint_integrations.pydantic_ai.abilities import Abilities
from tests.engines.openai.scripted import ScriptedServer, chunk, events, says, stream, usage
from tests.integrations.pydantic_ai.scripted import Asked, ScriptedModel
from tests.integrations.pydantic_ai.test_engine import ASKED, play

TOOL = ToolBrief("look_up", "Look something up.", '{"type": "object", "properties": {"word": {"type": "string"}}}')
SAMPLING = ("temperature", "top_p", "top_k", "seed")
OPENAI = OpenAIProvider(api_key="none")
REASONING = {"openai_supports_reasoning": True, "supports_thinking": True}


def settings(model: Model, own: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    context = Context().extend(map(ord, ASKED), ASKED)
    options: dict[str, Any] = {"sampling": Sampling(), "max_tokens": 9, **changes}
    request = Request(id="r", context=context, **options)
    abilities = Abilities.of(model, dict(own or {}))  # type: ignore[arg-type]
    return dict(abilities.settings_of(request, conversation_of(ASKED).messages, prefer="schemas"))


def drawn(model: Model, own: Mapping[str, Any] | None = None, **sampling: Any) -> dict[str, Any]:
    found = settings(model, own, sampling=Sampling(**sampling))
    return {name: value for name, value in found.items() if name in SAMPLING}


class TestSampling:
    def test_neutral_values_are_left_out(self) -> None:
        assert drawn(ScriptedModel([])) == {"temperature": 0.6}
        assert drawn(ScriptedModel([]), temperature=0, top_p=0.9, top_k=4, seed=7) == {
            "temperature": 0,
            "top_p": 0.9,
            "top_k": 4,
            "seed": 7,
        }

    @pytest.mark.reported("open-webui/pipelines#546", "Vali-98/ChatterUI#564", "NeatChat/NeatChat#72")
    def test_claude_gets_a_temperature_or_top_p(self) -> None:
        claude = ScriptedModel([], name="eu.anthropic.Claude-sonnet-4-5")
        assert drawn(claude) == {"temperature": 0.6}
        assert drawn(claude, top_p=0.9) == {"temperature": 0.6}
        assert drawn(claude, temperature=1, top_p=0.9) == {"top_p": 0.9}

    @pytest.mark.parametrize(
        ("profile", "own"),
        [
            ({"anthropic_disallows_sampling_settings": True}, {}),
            ({"bedrock_disallows_sampling_settings": True}, {}),
            (REASONING, {}),
            (REASONING | {"openai_supports_reasoning_effort_none": True, "thinking_enabled_by_default": True}, {}),
            (REASONING | {"openai_reasoning_efforts": ("none", "low")}, {"openai_reasoning_effort": "low"}),
            (REASONING | {"openai_reasoning_efforts": ("none", "low")}, {"thinking": "high"}),
            (REASONING | {"openai_reasoning_efforts": ("low",)}, {"thinking": False}),
        ],
    )
    def test_models_that_refuse_it_get_none(self, profile: dict[str, Any], own: dict[str, Any]) -> None:
        assert drawn(ScriptedModel([], **profile), own, top_p=0.9, seed=4) == {}

    @pytest.mark.parametrize(
        "own", [{}, {"thinking": False}, {"openai_reasoning_effort": "none"}, {"temperature": 0.6}]
    )
    def test_models_that_refuse_it_only_while_they_think(self, own: dict[str, Any]) -> None:
        profile = REASONING | {"openai_reasoning_efforts": ("none", "low")}
        assert drawn(ScriptedModel([], **profile), own) == {"temperature": 0.6}

    @pytest.mark.parametrize("own", [{"thinking": "low"}, {"anthropic_thinking": {"type": "enabled"}}])
    def test_claude_refuses_it_while_it_thinks(self, own: dict[str, Any]) -> None:
        assert drawn(ScriptedModel([], name="claude-sonnet-4-5"), own) == {}

    def test_a_fallback_gets_what_all_of_its_models_accept(self) -> None:
        models = [WrapperModel(ScriptedModel([])), ScriptedModel([], anthropic_disallows_sampling_settings=True)]
        assert drawn(FallbackModel(*models)) == {}
        assert not Abilities.of(FallbackModel(ScriptedModel([]), ScriptedModel([], supports_tools=False)), {}).tools


class TestThinking:
    @pytest.mark.parametrize(
        ("level", "max_tokens", "sent"),
        [
            ("high", 20_000, "high"),
            ("high", 16_384, "medium"),
            ("high", 8000, "low"),
            (True, 8000, "low"),
            (True, 12_000, True),
            ("low", 2000, "minimal"),
            ("low", 1024, False),
            (False, 9, False),
        ],
    )
    def test_a_claude_that_counts_its_thoughts_keeps_tokens_for_words(
        self, level: Any, max_tokens: int, sent: Any
    ) -> None:
        claude = ScriptedModel([], name="claude-sonnet-4-5", supports_thinking=True)
        assert settings(claude, {"thinking": level}, max_tokens=max_tokens)["thinking"] == sent

    def test_others_decide_themselves(self) -> None:
        adaptive = {"supports_thinking": True, "anthropic_supports_adaptive_thinking": True}
        for model in (ScriptedModel([], name="claude-opus-4-6", **adaptive), ScriptedModel([], supports_thinking=True)):
            assert settings(model, {"thinking": "high"}, max_tokens=9)["thinking"] == "high"


class TestSettings:
    def test_the_callers_take_precedence(self) -> None:
        found = settings(ScriptedModel([]), {"temperature": 1.0, "cache": "1h", "thinking": "high"})
        assert (found["temperature"], found["cache"], found["thinking"], found["max_tokens"]) == (1.0, "1h", "high", 9)

    def test_the_models_own_cache_setting_is_kept(self) -> None:
        model = OpenAIChatModel("gpt-4.1", provider=OPENAI, settings={"cache": False})
        assert "cache" not in settings(model)

    def test_only_the_engine_repeats_requests(self) -> None:
        class Other(ScriptedModel):
            unsupported_settings = frozenset({"max_retries"})

        assert settings(ScriptedModel([]))["max_retries"] == 0
        assert "max_retries" not in settings(Other([]))

    def test_requests_with_one_beginning_have_one_cache_key(self) -> None:
        openai = settings(OpenAIResponsesModel("gpt-5", provider=OPENAI))
        assert (
            openai["openai_prompt_cache_key"]
            == settings(OpenAIChatModel("o3", provider=OPENAI))["openai_prompt_cache_key"]
        )
        local = OpenAIProvider(base_url="http://127.0.0.1:8080/v1", api_key="none")
        assert "openai_prompt_cache_key" not in settings(OpenAIChatModel("gpt-5", provider=local))

    def test_tools_that_may_not_be_called(self) -> None:
        assert settings(ScriptedModel([]), tools=(TOOL,))["tool_choice"] == "none"
        assert "tool_choice" not in settings(ScriptedModel([]), tools=(TOOL,), may_call=True)
        assert "tool_choice" not in settings(ScriptedModel([]))


class TestSchemas:
    SCHEMA = json.dumps(
        {
            "anyOf": [
                {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]},
                {"type": "object", "properties": {"thoughts": {"type": "string"}}},
            ]
        }
    )

    def parameters(self, model: Model, schema: str = SCHEMA, **changes: Any) -> Any:
        context = Context().extend(map(ord, ASKED), ASKED)
        request = Request(id="r", context=context, max_tokens=9, sampling=Sampling(), schema=schema, **changes)
        return Abilities.of(model, {}).parameters_of(request)

    def test_a_schema_is_sent_in_the_form_that_all_providers_understand(self) -> None:
        found = self.parameters(ScriptedModel([]))
        assert found.output_mode == "native"
        assert found.output_object.strict
        schema = found.output_object.json_schema
        assert (schema["type"], schema["required"], schema["additionalProperties"]) == (
            "object",
            ["answer", "thoughts"],
            False,
        )

    def test_one_that_strict_mode_cannot_express(self) -> None:
        found = self.parameters(ScriptedModel([]), '{"type": "object", "additionalProperties": {"type": "integer"}}')
        assert found.output_object.strict is None
        assert found.output_object.json_schema["additionalProperties"] == {"type": "integer"}

    def test_beside_tools(self) -> None:
        class Gemini(ScriptedModel):
            system = "google"  # type: ignore[assignment]

        official = OpenAIChatModel("gpt-4.1", provider=OPENAI)
        for model, may_call, mode in [
            (official, True, "native"),
            (ScriptedModel([]), True, "text"),
            (ScriptedModel([]), False, "native"),
            (Gemini([]), False, "text"),
            (Gemini([], google_supports_tool_combination=True), False, "native"),
        ]:
            assert self.parameters(model, tools=(TOOL,), may_call=may_call).output_mode == mode


class TestCache:
    def run(self, **options: Any) -> list[Asked]:
        model = ScriptedModel(play)

        def look_up(word: str) -> str:
            return f"{word}: a tool"

        async def main() -> None:
            async with PydanticAIEngine(model, **options) as engine:
                executor = Executor(int, tools=[look_up])
                await Sprint(engine, planner=Planner(str), executor=executor).run("How many?")

        asyncio.run(main())
        return model.asked

    def test_requests_of_one_run_differ_in_their_last_turns_only(self) -> None:
        asked = self.run(prefer="cache")
        assert len({repr(each.settings) for each in asked}) == 1
        assert len({repr(each.parameters) for each in asked}) == 1
        planner, executor = (next(each for each in asked if role in each.last) for role in ("planner", "executor"))
        shared = content(planner.messages)
        assert content(executor.messages)[: len(shared)] == shared
        assert content(asked[-1].messages)[: len(shared)] == shared

    def test_schemas_differ_and_the_tools_do_not(self) -> None:
        asked = self.run()
        assert {each.parameters.output_mode for each in asked} == {"native", "text"}
        assert {each.settings.get("tool_choice") for each in asked} == {"none", None}
        assert len({repr(each.parameters.function_tools) for each in asked}) == 1


def content(messages: list[ModelMessage]) -> list[tuple[str, str]]:
    return [(part.part_kind, str(getattr(part, "content", ""))) for message in messages for part in message.parts]


class TestOnTheWire:
    """The bodies that pydantic-ai's OpenAI models send; a warning of pydantic-ai would fail the test."""

    def body(self, name: str, **changes: Any) -> dict[str, Any]:
        async def main() -> Any:
            async with ScriptedServer([says("4")]) as server:
                provider = OpenAIProvider(base_url=server.base, api_key="none")
                async with PydanticAIEngine(OpenAIChatModel(name, provider=provider)) as engine:
                    context = Context().extend(map(ord, ASKED), ASKED)
                    request = Request(id="r", context=context, max_tokens=9, sampling=Sampling(), **changes)
                    assert "".join([chunk.text async for chunk in engine.complete(request)]) == "4"
                return server.sent[0]

        return asyncio.run(main())

    def test_a_plain_model(self) -> None:
        body = self.body("gpt-4.1", schema=TestSchemas.SCHEMA)
        assert [message["content"] for message in body["messages"]] == ["Be brief.", "How many?"]
        assert (body["temperature"], body["stream"]) == (0.6, True)
        assert "top_p" not in body
        assert body["response_format"]["json_schema"]["strict"]
        assert list(body["response_format"]["json_schema"]["schema"]["properties"]) == ["answer", "thoughts"]

    def test_a_model_that_thinks(self) -> None:
        body = self.body("gpt-5")
        assert "temperature" not in body
        assert body["max_completion_tokens"] == 9

    def test_tools(self) -> None:
        body = self.body("gpt-4.1", tools=(TOOL,))
        assert body["tools"][0]["function"]["name"] == "look_up"
        assert body["tool_choice"] == "none"
        assert self.body("gpt-4.1", tools=(TOOL,), may_call=True)["tool_choice"] == "auto"

    def test_thoughts_that_deepseek_wants_back(self) -> None:
        thought = chunk(delta={"reasoning_content": "hm"})
        act = stream(events([thought, chunk("4"), chunk(finish="stop"), usage(9, 2)]))

        async def main() -> list[Any]:
            async with ScriptedServer([act]) as server, AsyncOpenAI(base_url=server.base, api_key="none") as client:
                model = OpenAIChatModel("deepseek-reasoner", provider=DeepSeekProvider(openai_client=client))
                async with PydanticAIEngine(model) as engine:
                    more = f"4{TURNS.close('assistant')}{TURNS.write([('user', 'Sure?')])}{TURNS.open('assistant')}"
                    for text in (ASKED, ASKED + more):
                        context = Context().extend(map(ord, text), text)
                        request = Request(id="r", context=context, max_tokens=9, sampling=Sampling())
                        assert "".join([part.text async for part in engine.complete(request)]) == "4"
                return server.sent

        first, second = asyncio.run(main())
        (answer,) = (message for message in second["messages"] if message["role"] == "assistant")
        assert answer["content"] == "4"
        assert answer["reasoning_content"] == "hm"
        assert second["messages"][: len(first["messages"])] == first["messages"]
