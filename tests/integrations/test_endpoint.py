"""The endpoint, asked by OpenAI's own client over HTTP."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, AsyncOpenAI
from pydantic import BaseModel
from starlette.requests import Request

from sprint_agents import Answer, Budget, Executor, Planner, Planning, Sprint, Stage, Step
from sprint_agents.errors import ConfigurationError, EngineOverloaded, EngineUnavailable
from sprint_agents.testing import FakeEngine, Fault, Prompt, Reply
from sprint_integrations.endpoint import Bounds, application
from tests.integrations.served import served

TASK = [{"role": "user", "content": "How many legs have 2 cats and a hen?"}]
REPLIES = {
    "planner, stage 1": '{"subtasks": ["2 cats", "a hen"]}',
    "executor 1.1": '{"result": "8"}',
    "executor 1.2": '{"result": "2"}',
    "planner": '{"answer": "10"}',
}
REASONING = "Stage 1\n1.1 2 cats\n1.2 a hen\n1.1 = 8\n1.2 = 2\nStage 2\n"


class Legs(BaseModel):
    legs: int


def legs(**options: Any) -> Sprint[Any, Any]:
    return Sprint(FakeEngine(options.pop("replies", REPLIES)), dialect="json", **options)


def ask(
    use: Callable[[AsyncOpenAI], Awaitable[None]],
    sprint: Sprint[Any, Any] | None = None,
    **options: Any,
) -> None:
    """Let an official client of a served ``Sprint`` do something; afterwards nothing runs at its engine."""
    sprint = sprint or legs()

    async def main() -> None:
        async with (
            served(application({"legs": sprint}, **options)) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0) as client,
        ):
            await use(client)
        assert isinstance(sprint.engine, FakeEngine)
        assert sprint.engine.account().running == 0

    asyncio.run(main())


def refused(
    use: Callable[[AsyncOpenAI], Awaitable[object]], sprint: Sprint[Any, Any] | None = None, **options: Any
) -> APIStatusError:
    found: list[APIStatusError] = []

    async def fail(client: AsyncOpenAI) -> None:
        with pytest.raises(APIStatusError) as caught:
            await use(client)
        found.append(caught.value)

    ask(fail, sprint, **options)
    return found[0]


class TestDeps:
    @pytest.mark.parametrize("later", [True, False])
    def test_each_request_has_its_own(self, later: bool) -> None:
        async def find_later(request: Request) -> str:
            return request.headers["x-user"]

        def find(request: Request) -> str:
            return request.headers["x-user"]

        async def policy(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
            yield Answer(value=f"for {planning.deps}")

        async def use(client: AsyncOpenAI) -> None:
            for user in ("ada", "bob"):
                completion = await client.chat.completions.create(
                    model="legs", messages=TASK, extra_headers={"x-user": user}
                )
                assert completion.choices[0].message.content == f"for {user}"

        ask(use, legs(policy=policy, deps_type=str), deps=find_later if later else find)


class TestChatCompletions:
    def test_an_answer_with_its_reasoning_and_cost(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            completion = await client.chat.completions.create(model="legs", messages=TASK)
            (choice,) = completion.choices
            assert (choice.message.content, choice.finish_reason) == ("10", "stop")
            assert choice.message.model_extra == {"reasoning_content": REASONING}
            usage = completion.usage
            assert usage.prompt_tokens > usage.prompt_tokens_details.cached_tokens > 0
            assert usage.completion_tokens > usage.completion_tokens_details.reasoning_tokens > 0

        ask(use)

    def test_a_stream(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            stream = await client.chat.completions.create(
                model="legs", messages=TASK, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
            assert "".join(delta.content or "" for delta in deltas) == "10"
            assert "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas) == REASONING
            assert chunks[-2].choices[0].finish_reason == "stop"
            assert chunks[-1].usage.completion_tokens > 0

        ask(use)

    def test_the_type_of_the_planner_is_the_form_of_the_answer(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            completion = await client.chat.completions.create(model="legs", messages=TASK)
            assert json.loads(completion.choices[0].message.content) == {"legs": 10}

        replies = REPLIES | {"planner": '{"answer": {"legs": 10}}'}
        ask(use, legs(replies=replies, planner=Planner(Legs)))

    def test_a_schema_of_the_client_is_the_type_of_the_answer(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            completion = await client.chat.completions.parse(model="legs", messages=TASK, response_format=Legs)
            assert completion.choices[0].message.parsed == Legs(legs=10)

        ask(use, legs(replies=REPLIES | {"planner": '{"answer": {"legs": 10}}'}))

    def test_a_conversation_is_one_task(self) -> None:
        sprint = legs(replies={"planner": '{"answer": "2"}'})

        async def use(client: AsyncOpenAI) -> None:
            said = [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "1 + 0?"},
                {"role": "assistant", "content": "1"},
                {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]},
            ]
            await client.chat.completions.create(model="legs", messages=said, temperature=0.1, seed=3)

        ask(use, sprint)
        (request,) = sprint.engine.requests
        told = request.request.context.text
        assert "Be brief.\n\nThe conversation so far:\n\nuser: 1 + 0?\n\nassistant: 1\n\n1 + 1?" in told
        assert (request.request.sampling.temperature, request.request.sampling.seed) == (0.1, 3)

    def test_a_limit_of_tokens_ends_the_run(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            completion = await client.chat.completions.create(model="legs", messages=TASK, max_completion_tokens=6)
            (choice,) = completion.choices
            assert (choice.message.content, choice.finish_reason) == ("", "length")
            assert 0 < completion.usage.completion_tokens <= 6

        ask(use)

    @pytest.mark.parametrize(
        ("body", "parameter"),
        [
            ({"n": 2}, "n"),
            ({"stop": ["."]}, "stop"),
            ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
            ({"messages": []}, "messages"),
            (
                {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
                "messages",
            ),
            ({"messages": [*TASK, {"role": "assistant", "content": "10"}]}, "messages"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"temperature": -1}, "temperature"),
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ],
    )
    def test_what_cannot_be_followed_is_refused_by_name(self, body: dict[str, Any], parameter: str) -> None:
        sprint = legs()
        whole = {"model": "legs", "messages": TASK} | body
        error = refused(lambda client: client.chat.completions.create(**whole), sprint)
        assert (error.status_code, error.body["param"]) == (400, parameter)
        assert sprint.engine.account().started == 0

    def test_an_error_within_a_stream_is_an_event(self) -> None:
        replies = REPLIES | {"planner": Reply("", fault=Fault.error(EngineUnavailable("gone")))}

        async def use(client: AsyncOpenAI) -> None:
            stream = await client.chat.completions.create(model="legs", messages=TASK, stream=True)
            with pytest.raises(Exception, match="gone"):
                async for _ in stream:
                    pass

        ask(use, legs(replies=replies))


class TestResponses:
    def test_a_response(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            response = await client.responses.create(model="legs", input="Legs?", instructions="Be brief.")
            assert (response.status, response.output_text) == ("completed", "10")
            reasoning, message = response.output
            assert (reasoning.summary[0].text, message.type) == (REASONING, "message")
            assert response.usage.output_tokens > response.usage.output_tokens_details.reasoning_tokens > 0

        ask(use)

    def test_a_stream(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            async with client.responses.stream(model="legs", input=TASK) as stream:
                kinds = [event.type async for event in stream]
                response = await stream.get_final_response()
            assert kinds[0] == "response.created"
            assert kinds[-1] == "response.completed"
            assert kinds.count("response.reasoning_summary_text.delta") == REASONING.count("\n")
            assert response.output_text == "10"

        ask(use)

    def test_a_schema(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            response = await client.responses.parse(model="legs", input="Legs?", text_format=Legs)
            assert response.output_parsed == Legs(legs=10)

        ask(use, legs(replies=REPLIES | {"planner": '{"answer": {"legs": 10}}'}))

    def test_a_limit_of_tokens_makes_it_incomplete(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            response = await client.responses.create(model="legs", input="Legs?", max_output_tokens=6)
            assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")

        ask(use)

    def test_what_needs_a_store_is_refused(self) -> None:
        error = refused(
            lambda client: client.responses.create(model="legs", input="Legs?", previous_response_id="resp_1")
        )
        assert (error.status_code, error.body["param"]) == (400, "previous_response_id")


class TestSchemas:
    @pytest.mark.parametrize(
        ("schema", "reason"),
        [
            ({"type": "no-type"}, "not valid"),
            ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "names nothing"),
            ({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "recursive"),
            ({"$ref": "http://127.0.0.1:9/schema.json"}, "names nothing"),
            ({"type": "string", "pattern": r"(?=a)b"}, "linear time"),
            ({"type": "object", "patternProperties": {"(a+)+$": {}}}, "patternProperties is not supported"),
            (
                {
                    "$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": {}},
                    "$ref": "#/$defs/d0",
                },
                "more than 5,000 parts",
            ),
        ],
    )
    def test_one_that_cannot_be_used_is_refused(self, schema: dict[str, Any], reason: str) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        error = refused(
            lambda client: client.chat.completions.create(model="legs", messages=TASK, response_format=wanted)
        )
        assert (error.status_code, error.body["code"]) == (400, "invalid_schema")
        assert reason in error.message

    @pytest.mark.parametrize(
        ("schema", "wrong", "right"),
        [
            ({"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}}, ["x"], [1]),
            ({"type": "string", "pattern": "^(a+)+$"}, "a" * 100 + "!", "aaa"),
            ({"enum": [1, "two"]}, 2, "two"),
        ],
    )
    def test_an_answer_that_does_not_satisfy_it_is_corrected(
        self, schema: dict[str, Any], wrong: object, right: object
    ) -> None:
        answers = [wrong, right]
        replies = [REPLIES["planner, stage 1"], '{"result": "8"}', '{"result": "2"}']
        replies += [json.dumps({"answer": answer}) for answer in answers]

        async def use(client: AsyncOpenAI) -> None:
            wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
            completion = await client.chat.completions.create(model="legs", messages=TASK, response_format=wanted)
            content = completion.choices[0].message.content
            assert content == right or json.loads(content) == right

        ask(use, legs(replies=replies))


class TestTheEndpoint:
    def test_models(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            assert [model.id async for model in client.models.list()] == ["legs"]
            assert (await client.models.retrieve("legs")).id == "legs"
            with pytest.raises(APIStatusError, match="no model 'arms'"):
                await client.models.retrieve("arms")

        ask(use)

    def test_an_unknown_model(self) -> None:
        error = refused(lambda client: client.chat.completions.create(model="arms", messages=TASK))
        assert (error.status_code, error.body["code"]) == (404, "model_not_found")
        assert "use legs" in error.message

    def test_a_key(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            assert (await client.chat.completions.create(model="legs", messages=TASK)).choices
            async with httpx2.AsyncClient(headers={"Authorization": "bearer secret"}) as http:
                assert (await http.get(f"{client.base_url}models")).status_code == 200
            for wrong in ("guess", "sécret"):
                headers = {"Authorization": f"Bearer {wrong}".encode()}
                async with httpx2.AsyncClient(base_url=str(client.base_url), headers=headers) as http:
                    for path in ("models", "models/legs", "../metrics"):
                        assert (await http.get(path)).status_code == 401
                    assert (await http.post("chat/completions", content=b"{")).status_code == 401
                    assert (await http.get("../health")).json() == {"status": "ok", "running": 0}

        ask(use, api_key="secret")

    def test_null_where_openai_allows_it(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            body = {"model": "legs", "messages": TASK, "stream": None, "temperature": None, "max_tokens": None}
            async with httpx2.AsyncClient(base_url=str(client.base_url)) as http:
                assert (await http.post("chat/completions", json=body)).status_code == 200

        ask(use)

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": "legs"}', b"\xff", b'{"model": 1, "messages": 2}'])
    def test_a_malformed_body(self, body: bytes) -> None:
        async def use(client: AsyncOpenAI) -> None:
            async with httpx2.AsyncClient(base_url=str(client.base_url)) as http:
                for path in ("chat/completions", "responses"):
                    reply = await http.post(path, content=body)
                    assert reply.status_code == 400
                    assert reply.json()["error"]["type"] == "invalid_request_error"

        ask(use)

    def test_a_body_is_bounded(self) -> None:
        long = [{"role": "user", "content": "x" * 5_000}]
        error = refused(
            lambda client: client.chat.completions.create(model="legs", messages=long), bounds=Bounds(body=1_000)
        )
        assert error.status_code == 413

    @pytest.mark.parametrize(("cause", "status"), [(EngineOverloaded("busy"), 429), (EngineUnavailable("gone"), 503)])
    def test_an_engine_that_fails(self, cause: Any, status: int) -> None:
        broken = legs(replies={"planner": Reply("", fault=Fault.error(cause))})
        error = refused(lambda client: client.chat.completions.create(model="legs", messages=TASK), broken)
        assert (error.status_code, error.body["code"]) == (status, type(cause).__name__)
        assert error.response.headers["retry-after"] == "1"

    def test_a_run_without_an_answer(self) -> None:
        error = refused(
            lambda client: client.chat.completions.create(model="legs", messages=TASK), legs(replies={"planner": ""})
        )
        assert error.status_code == 500
        assert error.body["code"] == "NoProgress"

    def test_an_empty_task_is_refused_even_for_a_stream(self) -> None:
        empty = [{"role": "user", "content": " "}]
        error = refused(lambda client: client.chat.completions.create(model="legs", messages=empty, stream=True))
        assert (error.status_code, error.body["code"]) == (400, "UnsupportedTask")

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_client_that_leaves_ends_its_run_and_frees_its_place(self, stream: bool) -> None:
        reached = asyncio.Event()

        async def wait(_: Prompt) -> str:
            reached.set()
            return await asyncio.Future()

        sprint = legs(replies={"planner, stage 1": wait, "planner": '{"answer": "1"}'})

        async def use(client: AsyncOpenAI) -> None:
            async def leave() -> None:
                found = await client.chat.completions.create(model="legs", messages=TASK, stream=stream)
                async for _ in found:
                    pass

            asking = asyncio.create_task(leave())
            await reached.wait()
            with pytest.raises(APIStatusError) as caught:
                await client.chat.completions.create(model="legs", messages=TASK)
            assert (caught.value.status_code, caught.value.body["code"]) == (429, "busy")
            asking.cancel()
            await asyncio.wait([asking])
            async with httpx2.AsyncClient(base_url=str(client.base_url)) as http:
                while (await http.get("../health")).json()["running"]:
                    pass
                metrics = (await http.get("../metrics")).text
            assert 'sprint_runs_total{model="legs",outcome="left"} 1.0' in metrics
            assert "sprint_runs_running 0.0" in metrics

        ask(use, sprint, bounds=Bounds(concurrency=1))

    def test_tokens_and_outcomes_are_counted(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            await client.chat.completions.create(model="legs", messages=TASK)
            async with httpx2.AsyncClient(base_url=str(client.base_url)) as http:
                metrics = (await http.get("../metrics")).text
            assert 'sprint_runs_total{model="legs",outcome="answered"} 1.0' in metrics
            assert 'sprint_tokens_total{kind="completion",model="legs"}' in metrics
            assert 'sprint_run_seconds_count{model="legs"} 1.0' in metrics

        ask(use)

    def test_the_budget_of_the_sprint_is_the_upper_bound(self) -> None:
        async def use(client: AsyncOpenAI) -> None:
            completion = await client.chat.completions.create(model="legs", messages=TASK, max_tokens=10_000)
            assert completion.choices[0].finish_reason == "length"

        ask(use, legs(budget=Budget(tokens=6), executor=Executor(str)))

    def test_no_models(self) -> None:
        with pytest.raises(ConfigurationError, match="no model to serve"):
            application({})
