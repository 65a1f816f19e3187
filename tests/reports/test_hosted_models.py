"""Hosted models with OpenAI's API: the engine corrects what they refuse, where the message says how."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from sprint_agents.engine import Sampling
from sprint_agents.engines.openai import OpenAIEngine, ServerName
from sprint_agents.errors import ContextOverflow, EngineRejected
from tests.engines.openai.scripted import Act, ScriptedServer, answers, events, says, stream
from tests.engines.openai.test_chat import complete, heard, play, refused, request

LIMITS = {
    "max_tokens is too large: 6000. This model supports at most 4096 completion tokens, whereas you …": 4096,
    "max_tokens: 6000 > 4096, which is the maximum allowed number of output tokens for claude-sonnet-4-20250514": 4096,
    "max_tokens for `llama-3.1-8b-instant` must be less than or equal to 4096": 4096,
    "`max_tokens` must be less than or equal to `4096`, the maximum value for `max_tokens` is less than the "
    "`context_window` for this model": 4096,
    "Invalid max_tokens value, the valid range of max_tokens is [1, 4096]": 4096,
    "Unable to submit request because it has a maxOutputTokens value of 6000 but the supported range is from 1 "
    "(inclusive) to 4097 (exclusive). Update the value and try again.": 4096,
    "max_tokens (6000) exceeds model's maximum output tokens (4096) for model deepseek-v4-flash:0731": 4096,
    "ValidationException: The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum "
    "tokens value that is lower than 4096.": 4096,
    "The maximum tokens you requested exceed the model limit of 4096. Try again with a lower value.": 4096,
    "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 4096]": 4096,
    "input length and `max_tokens` exceed context limit: 199759 + 6000 > 200000, decrease input length or `max_tokens` "
    "and try again": 241,
}


class TestTheLimit:
    @pytest.mark.reported(
        "diffbot/code-gpt-docs#284",
        "OpenHands/OpenHands#11090",
        "skapadia3214/groq-moa#8",
        "anomalyco/opencode#1000",
        "nickscamara/open-deep-research#19",
        "stackblitz-labs/bolt.diy#955",
        "DaviRain-Su/hyper-grok-build#44",
        "aws-samples/bedrock-access-gateway#41",
        "RooCodeInc/Roo-Code#248",
        "docker/docker-agent#569",
    )
    @pytest.mark.parametrize(("message", "limit"), LIMITS.items())
    def test_one_that_is_too_large_is_lowered_to_what_the_message_says(self, message: str, limit: int) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            await complete(engine, request(max_tokens=6000))
            assert [body["max_tokens"] for body in server.sent] == [6000, limit]

        play([refused(message), says("4", finish="length")], scene)

    @pytest.mark.reported("fish2018/YPrompt#26", "getcmd-dev/cmd#36", "griptape-ai/ComfyUI-Griptape#312")
    def test_a_model_that_wants_it_under_its_new_name_gets_it(self) -> None:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        too_large = "max_tokens is too large: 20. This model supports at most 16 completion tokens"

        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            await complete(engine, request(max_tokens=20))
            await complete(engine, request(max_tokens=9))
            names = [
                {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body}
                for body in server.sent
            ]
            assert names == [
                {"max_tokens": 20},
                {"max_completion_tokens": 20},
                {"max_completion_tokens": 16},
                {"max_completion_tokens": 9},
            ]

        play([refused(message), refused(too_large), says("4"), says("4")], scene)

    def test_a_model_that_wants_it_under_its_old_name_gets_it(self) -> None:
        message = "Unrecognized request argument supplied: max_completion_tokens"
        too_large = "max_tokens is too large: 20. This model supports at most 16 completion tokens"

        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            await complete(engine, request(max_tokens=20))
            assert [body.get("max_tokens") for body in server.sent] == [None, 20, 16]

        play([refused(message), refused(too_large), says("4")], scene, server="openai")


class TestFields:
    @pytest.mark.reported(
        "decolua/9router#560",
        "OpenHands/software-agent-sdk#1837",
        "jekalmin/extended_openai_conversation#428",
        "songquanpeng/one-api#1423",
        "openai/openai-python#1469",
        "microsoft/semantic-kernel#10510",
    )
    @pytest.mark.parametrize(
        ("message", "field"),
        [
            ("Unsupported value: 'temperature' does not support 0.6 with this model. Only …", "temperature"),
            ("Unsupported parameter: 'temperature' is not supported with this model.", "temperature"),
            ("Unsupported parameter: 'top_p' is not supported with this model.", "top_p"),
            ("property 'seed' is unsupported", "seed"),
            ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", "top_p"),
            ("temperature and top_p cannot both be specified for this model. Please use only one.", "top_p"),
            ("Unrecognized request argument supplied: stream_options", "stream_options"),
            ("Validation error at #/stream_options: Extra inputs are not permitted", "stream_options"),
            ("Unknown parameter: 'seed'.", "seed"),
            ('json: unknown field "seed"', "seed"),
            ("Extra inputs are not permitted, field: 'seed', value: 3", "seed"),
            ('Invalid JSON payload received. Unknown name "seed": Cannot find field.', "seed"),
            ("extraneous key [seed] is not permitted", "seed"),
            ('[{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]', "seed"),
            ("`temperature` is deprecated for this model.", "temperature"),
            ("invalid temperature: only 1 is allowed for this model", "temperature"),
        ],
    )  # fmt: skip
    def test_a_way_to_draw_tokens_that_is_refused_is_left_out_from_then_on(self, message: str, field: str) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            seeded = replace(request(), sampling=Sampling(seed=3))
            with capture_logs() as logs:
                await complete(engine, seeded)
                await complete(engine, seeded)
            assert [field in body for body in server.sent] == [True, False, False]
            (note,) = (log["note"] for log in logs if log["event"] == "engine.odd_answer")
            assert field in note

        play([refused(message), says("4"), says("4")], scene)

    @pytest.mark.parametrize(
        "message",
        [
            "temperature must be between 0 and 1",
            "model doubao-seed-1-6 is not supported with top-p",
            "unknown model 'tiny'",
            "seed 3 is odd",
        ],
    )
    def test_a_value_or_another_name_that_is_refused_is_no_field(self, message: str) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineRejected):
                await complete(engine, replace(request(), sampling=Sampling(seed=3)))
            assert len(server.sent) == 1

        play([refused(message)], scene)

    def test_others_are_not(self) -> None:
        with pytest.raises(EngineRejected, match="'response_format'"):
            heard(refused("Unsupported parameter: 'response_format' is not supported with this model."))

    @pytest.mark.parametrize(
        "message",
        [
            "This response_format type is unavailable now",  # DeepSeek
            "'response_format.type' : value is not one of the allowed values ['text','json_object']",
            "Failed to parse grammar",  # llama.cpp
            "Unsupported parameter: 'response_format' is not supported with this model.",
        ],
    )
    def test_a_refused_schema_names_the_setting_that_leaves_it_out(self, message: str) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineRejected, match=r"Server\(schemas='none'\)") as caught:
                await complete(engine, replace(request(), schema='{"type": "object"}'))
            assert str(caught.value).startswith(message)

        play([refused(message)], scene)

    def test_a_refusal_without_a_schema_names_no_such_setting(self) -> None:
        with pytest.raises(EngineRejected) as caught:
            heard(refused("response_format is fine, and the prompt is not"))
        assert "schemas=" not in str(caught.value)

    def test_it_does_not_ask_forever(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineRejected):
                await complete(engine, request(max_tokens=900))
            assert len(server.sent) == 5

        lower = [refused(f"valid range of max_tokens is [1, {limit}]") for limit in range(800, 100, -100)]
        play(lower, scene)


@pytest.mark.reported("google-gemini/gemini-cli#4692", "proxysoul/Empryo#52")
@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 70 tokens > 64 maximum",
        "The input token count (70) exceeds the maximum number of tokens allowed (64).",
        "Prompt contains 70 tokens and 0 draft tokens, too large for model with 64 maximum context length",
        "input length and `max_tokens` exceed context limit: 70 + 20 > 64, decrease input length or `max_tokens`",
        "You passed 70 input tokens and requested 0 output tokens. However, the model's context length is only 64 "
        "tokens, resulting in a maximum input length of 64 tokens.",
        "The decoder prompt (length 70) is longer than the maximum model length of 64. Make sure that …",
        "The prompt (total length 70) is too long to fit into the model (context length 64). Make sure that …",
        "Input prompt (70 tokens) is too long and exceeds limit of 64",
        "Input validation error: `inputs` must have less than 64 tokens. Given: 70",
        "`inputs` tokens + `max_new_tokens` must be <= 64. Given: 70 `inputs` tokens and 20 `max_new_tokens`",
        "Trying to keep the first 70 tokens when context the overflows. However, the model is loaded with context "
        "length of only 64 tokens, which is not enough.",
        "This endpoint's maximum context length is 64 tokens. However, you requested about 90 tokens (70 of text "
        "input, 20 in the output).",
        "This model's maximum prompt length is 64 but the request contains 70 tokens.",
        "The prompt is too long: 70, model maximum context length: 64",
        "Please reduce the length of the messages or completion. Current length is 70 while limit is 64",
        "prompt token count of 70 exceeds the limit of 64",
        "The input token count 70 exceeds the maximum number of tokens allowed 64.",
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        refused,
        lambda message: answers({"error": {"message": message}}, 500),
        lambda message: stream(events([json.dumps({"error": message})])),
    ],
    ids=["400", "500", "in the stream"],
)
def test_a_context_that_is_too_long(message: str, answer: Callable[[str], Act]) -> None:
    with pytest.raises(ContextOverflow) as raised:
        heard(answer(message))
    assert (raised.value.tokens, raised.value.limit) == (70, 64)


QUOTA = "You exceeded your current quota, please check your plan and billing details. For more information …"


class TestQuotas:
    @pytest.mark.reported("browserbase/mcp-server-browserbase#129", "RooCodeInc/Roo-Code#3883")
    def test_one_of_a_minute_passes(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            await complete(engine)
            assert len(server.sent) == 2

        play([answers({"error": {"message": f"{QUOTA}\nPlease retry in 0.01s."}}, 429), says("4")], scene)

    @pytest.mark.parametrize(
        "message", [QUOTA, "Request too large for m on tokens per min (TPM): Limit 30000, Requested 61000. …"]
    )
    def test_one_that_no_waiting_helps_against_is_a_refusal(self, message: str) -> None:
        with pytest.raises(EngineRejected):
            heard(answers({"error": {"message": message}}, 429))


class TestTheHint:
    @pytest.mark.parametrize(
        ("url", "provider"),
        [
            ("https://api.openai.com/v1", "openai"),
            ("https://api.anthropic.com/v1", "anthropic"),
            ("https://generativelanguage.googleapis.com/v1beta/openai", "google"),
            ("https://api.deepseek.com", "deepseek"),
            ("https://api.mistral.ai/v1", "mistral"),
            ("https://mine.openai.azure.com/openai/v1", "azure"),
        ],
    )
    @pytest.mark.parametrize("status", [400, 404, 422])
    def test_a_refusal_of_a_hosted_api_points_to_the_engine_for_it(self, url: str, provider: str, status: int) -> None:
        with pytest.raises(
            EngineRejected, match=r"(?s)^no such field.*pip install 'sprint-agents\[pydantic-ai\]'"
        ) as raised:
            ask(url, status, "no such field")
        assert f"PydanticAIEngine('{provider}:…')" in str(raised.value)

    @pytest.mark.parametrize(
        ("url", "status", "message"),
        [
            ("http://127.0.0.1:8000/v1", 400, "no such field"),
            ("https://models.example.org/v1", 422, "no such field"),
            ("https://notapi.openai.com.example.org/v1", 400, "no such field"),
            ("https://api.anthropic.com/v1", 401, "invalid x-api-key"),
            ("https://generativelanguage.googleapis.com/v1beta/openai", 400, "API key not valid"),
        ],
    )
    def test_others_do_not(self, url: str, status: int, message: str) -> None:
        with pytest.raises(EngineRejected) as raised:
            ask(url, status, message)
        assert "PydanticAIEngine" not in str(raised.value)

    def test_a_model_that_is_too_small_is_the_same_error_everywhere(self) -> None:
        with pytest.raises(ContextOverflow):
            ask("https://api.anthropic.com/v1", 400, "prompt is too long: 70 tokens > 64 maximum")


def ask(url: str, status: int, message: str, server: ServerName | None = None) -> None:
    """Send a request to a hosted model that answers with this status."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, json={"error": {"message": message}})

    async def main() -> Any:
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        async with client, OpenAIEngine(url, model="m", client=client, server=server) as engine:
            return [chunk async for chunk in engine.complete(request())]

    asyncio.run(main())
