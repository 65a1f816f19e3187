"""pydantic-ai's errors become this library's, and are retried where they may pass."""

import asyncio
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

pytest.importorskip("pydantic_ai")
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelOverloadedError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    ModelServerError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
    UserError,
)
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from sprint_agents.errors import (
    ConfigurationError,
    ContextOverflow,
    EngineOverloaded,
    EngineProtocolError,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
)
from sprint_agents.testing import VirtualTimeLoop
from sprint_integrations.pydantic_ai import PydanticAIEngine
from tests.engines.openai.scripted import ScriptedServer, answers, says
from tests.integrations.pydantic_ai.scripted import ScriptedModel
from tests.integrations.pydantic_ai.test_engine import complete, request


def http(category: Any, status: int, message: str = "no", **details: Any) -> ModelHTTPError:
    body = {"type": "error", "error": {"type": "some_error", "message": message}}
    return ModelHTTPError.for_category(category, status_code=status, model_name="m", body=body, **details)


def failed(error: BaseException, *more: str, patience: float = 0) -> tuple[BaseException, int]:
    """Return the engine's error for a model's, and how often the model was asked."""
    model = ScriptedModel([*more, error])

    async def main() -> Any:
        async with PydanticAIEngine(model, patience=patience) as engine:
            return await complete(engine)

    with pytest.raises(Exception) as raised, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:  # noqa: PT011
        runner.run(main())
    assert model.open == 0
    return raised.value, len(model.asked)


@pytest.mark.parametrize("before", [(), ("4",)])
@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (http(ModelRateLimitError, 429), EngineOverloaded, "overloaded: no"),
        (http(ModelOverloadedError, 529), EngineOverloaded, "overloaded: no"),
        (http(ModelQuotaExceededError, 429), EngineRejected, "no quota or credit left: no"),
        (http(ModelServerError, 500), EngineUnavailable, "failed (500): no"),
        (http(ModelServerError, 504), EngineUnavailable, "failed (504): no"),
        (http(ModelAuthenticationError, 401), EngineRejected, "Is the API key right?"),
        (http(ModelNotFoundError, 404), EngineRejected, "no"),
        (http(ModelRequestRejectedError, 422, hint="Turn it on."), EngineRejected, "no. Turn it on."),
        (http(None, 418), EngineRejected, "no"),
        (
            http(ModelContextWindowExceededError, 400, "prompt is too long: 70 tokens > 64 maximum"),
            ContextOverflow,
            "70 tokens",
        ),
        (ModelRateLimitError("m", "in the stream"), EngineOverloaded, "in the stream"),
        (ModelRequestRejectedError("m", "not so"), EngineRejected, "not so"),
        (ModelConnectionError("m", "refused"), EngineUnavailable, "refused"),
        (ModelTimeoutError("m", "read"), EngineTimeout, "read"),
        (ModelRequestTimeout("m", 3), EngineTimeout, "3 seconds"),
        (ModelAPIError("m", "something"), EngineUnavailable, "something"),
        (ContentFilterError("filtered"), EngineRejected, "filtered"),
        (UnexpectedModelBehavior("odd", '{"a": 1}'), EngineProtocolError, "odd"),
        (UserError("not supported"), ConfigurationError, "not supported"),
        (httpx2.ReadError("reset"), EngineUnavailable, "reset"),
        (TimeoutError("read"), EngineTimeout, "read"),
        (ZeroDivisionError("mine"), ZeroDivisionError, "mine"),
    ],
    ids=repr,
)
def test_an_error_before_and_after_the_first_token(
    error: BaseException, kind: type[Exception], words: str, before: tuple[str, ...]
) -> None:
    found, _ = failed(error, *before)
    assert type(found) is kind
    assert words in str(found)


class TestRetries:
    def test_what_may_pass_is_asked_again(self) -> None:
        assert failed(http(ModelOverloadedError, 529), patience=1)[1] > 3
        assert failed(http(ModelRequestRejectedError, 400), patience=1)[1] == 1
        assert failed(http(ModelOverloadedError, 529), "4", patience=1)[1] == 1

    def test_the_pause_that_the_provider_asks_for(self) -> None:
        error, count = failed(http(ModelRateLimitError, 429, headers={"Retry-After": "61"}), patience=60)
        assert isinstance(error, EngineOverloaded)
        assert (error.retry_after, count) == (61, 1)

    def test_a_limit_that_is_too_large_is_lowered(self) -> None:
        refusals = iter(["max_tokens: 100 > 64, which is the maximum", "exceed context limit: 50 + 64 > 70"])

        def answer(_: Any) -> Any:
            return [http(ModelRequestRejectedError, 400, message)] if (message := next(refusals, "")) else ["4"]

        async def main() -> None:
            model = ScriptedModel(answer)
            async with PydanticAIEngine(model) as engine:
                assert (await complete(engine))[0] == "4"
            assert [asked.settings["max_tokens"] for asked in model.asked] == [100, 64, 20]

        asyncio.run(main())


class TestFallbacks:
    def test_the_next_model_answers(self) -> None:
        async def main() -> None:
            broken, works = ScriptedModel([http(ModelServerError, 500)]), ScriptedModel(["4"], name="other")
            async with PydanticAIEngine(FallbackModel(broken, works)) as engine:
                assert (await complete(engine))[0] == "4"

        asyncio.run(main())

    @pytest.mark.parametrize(
        ("first", "second", "kind"),
        [
            (http(ModelServerError, 500, "one"), http(ModelRequestRejectedError, 400, "two"), EngineUnavailable),
            (http(ModelRequestRejectedError, 400, "one"), http(ModelAuthenticationError, 401, "two"), EngineRejected),
        ],
    )
    def test_all_fail(self, first: Exception, second: Exception, kind: type[Exception]) -> None:
        async def main() -> None:
            models = [ScriptedModel([first]), ScriptedModel([second])]
            async with PydanticAIEngine(FallbackModel(*models), patience=0) as engine:
                await complete(engine)

        with pytest.raises(kind, match=r"(?s)no model of the fallback.*one.*two"):
            asyncio.run(main())


def test_a_limit_below_what_the_provider_takes_ends_the_completion_at_once() -> None:
    words = "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 5 instead."

    async def main() -> None:
        model = ScriptedModel([http(ModelRequestRejectedError, 400, words)])
        async with PydanticAIEngine(model) as engine:
            with capture_logs() as logs:
                text, finish = await complete(engine, request(max_tokens=5))
            assert (text, finish.reason, finish.generated_tokens) == ("", "length", 0)
            assert [message["note"] for message in logs if message["event"] == "engine.odd_answer"] == [
                "the provider takes no limit below 16 tokens, so a completion of 5 was not made"
            ]
            with pytest.raises(EngineRejected, match=">= 16"):
                await complete(engine, request(name="r-2", max_tokens=16))

    asyncio.run(main())


def test_refusals_of_a_real_server_reach_the_user() -> None:
    error = {"message": "The model `m` does not exist", "type": "invalid_request_error", "code": "model_not_found"}

    async def main() -> None:
        acts = [
            answers({"error": {"message": "slow down"}}, 429, **{"retry-after": "0"}),
            answers({"error": error}, 404),
        ]
        async with ScriptedServer([*acts, says("4")]) as server:
            model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=server.base, api_key="none"))
            async with PydanticAIEngine(model) as engine:
                with pytest.raises(EngineRejected, match=r"^The model `m` does not exist$"):
                    await complete(engine)
                assert len(server.sent) == 2
                assert (await complete(engine, request(name="r-2")))[0] == "4"

    asyncio.run(main())


def test_no_server() -> None:
    async def main() -> None:
        model = OpenAIChatModel("m", provider=OpenAIProvider(base_url="http://127.0.0.1:1/v1", api_key="none"))
        async with PydanticAIEngine(model, patience=0) as engine:
            await complete(engine)

    with pytest.raises(EngineUnavailable, match="no connection"):
        asyncio.run(main())
