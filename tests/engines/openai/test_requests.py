"""The body of a request for each kind of server."""

import asyncio
import json
from typing import Annotated, Any, Literal

import httpx2
import pytest
from pydantic import BaseModel, Field

from sprint_agents import Executor, Planner, Sprint
from sprint_agents.context import Context
from sprint_agents.dialects.json.dialect import JsonDialect
from sprint_agents.engine import Finish, Request, Sampling
from sprint_agents.engines.openai import OpenAIEngine, Server
from sprint_agents.errors import ConfigurationError, EngineProtocolError, InvalidRequest
from sprint_agents.tools import Tool

from .scripted import ScriptedServer, chunk, events, says

HOSTED = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "?"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}
PLAIN = {"frequency_penalty": 0.0, "presence_penalty": 0.0, "min_p": 0.0}


def body(
    *, sampling: Sampling | None = None, schema: str | None = None, max_tokens: int = 9, **options: Any
) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with (
            ScriptedServer([says("4")]) as server,
            OpenAIEngine(server.base, **{"model": "tiny", **options}) as engine,
        ):
            context = Context().extend(await engine.encode("?"), "?")
            sampled = sampling or Sampling()
            request = Request(id="r-1", context=context, max_tokens=max_tokens, sampling=sampled, schema=schema)
            chunks = [chunk async for chunk in engine.complete(request)]
            assert chunks[-1].finish is not None
            return server.sent[0] if server.sent else {"finish": chunks[-1].finish}

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("server", "fields"),
    [
        (None, {"max_tokens": 9, "temperature": 0.6, "top_p": 1.0}),
        ("openai", {"max_completion_tokens": 9, "temperature": 0.6, "top_p": 1.0}),
        ("openai-reasoning", {"max_completion_tokens": 9}),
        ("ollama", {"max_tokens": 9, "temperature": 0.6, "top_p": 1.0}),
        (
            "vllm",
            {"max_tokens": 9, "temperature": 0.6, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, **PLAIN}
            | {"include_stop_str_in_output": True},
        ),
        (
            "sglang",
            {"max_tokens": 9, "temperature": 0.6, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, **PLAIN}
            | {"no_stop_trim": True},
        ),
        (
            "llama.cpp",
            {"max_tokens": 9, "temperature": 0.6, "top_p": 1.0, "top_k": 0, "repeat_penalty": 1.0, **PLAIN},
        ),
    ],
)
def test_nothing_is_left_to_the_server_that_it_can_be_told(server: str | None, fields: dict[str, Any]) -> None:
    assert body(server=server) == HOSTED | fields


def test_a_seed_and_the_best_tokens() -> None:
    sent = body(sampling=Sampling(temperature=0, seed=7, top_k=5), server="vllm")
    assert (sent["temperature"], sent["seed"], sent["top_k"]) == (0, 7, 5)


def test_the_best_tokens_are_refused_where_the_server_is_not_known_to_choose_them() -> None:
    with pytest.raises(ConfigurationError, match="top_k, which is 5"):
        body(sampling=Sampling(top_k=5))
    # Whoever says that it does is believed.
    assert body(sampling=Sampling(top_k=5), extra={"top_k": 5})["top_k"] == 5


FURTHER = {"min_p": 0.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "repetition_penalty": 1.1}


@pytest.mark.parametrize("server", ["vllm", "sglang", "llama.cpp"])
def test_further_settings_by_the_names_of_the_server(server: str) -> None:
    sent = body(server=server, sampling=Sampling(**FURTHER, logit_bias={7: -100}))
    expected = dict(FURTHER)
    if server == "llama.cpp":
        expected["repeat_penalty"] = expected.pop("repetition_penalty")
    assert {name: sent[name] for name in expected} == expected
    assert sent["logit_bias"] == {"7": -100}


@pytest.mark.parametrize(
    ("server", "setting"),
    [
        ("other", "min_p"),
        ("openai", "repetition_penalty"),
        ("openai-reasoning", "presence_penalty"),
        ("ollama", "min_p"),
    ],
)
def test_settings_are_refused_where_the_server_is_not_known_to_have_them(server: str, setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"not known to support {setting}, which is {FURTHER[setting]}"):
        body(server=server, sampling=Sampling(**{setting: FURTHER[setting]}))
    assert body(server=server, sampling=Sampling(**{setting: FURTHER[setting]}), extra={setting: 0})


def test_log_probabilities_are_asked_for_with_an_alternative_at_least() -> None:
    with pytest.raises(ConfigurationError, match=r"Sampling\(logprobs=0\) asks for log-probabilities"):
        body(sampling=Sampling(logprobs=0))
    with pytest.raises(EngineProtocolError, match="returned no log-probabilities"):
        body(server="llama.cpp", sampling=Sampling(logprobs=0))


def test_further_fields_come_last_and_may_take_others_away() -> None:
    sent = body(extra={"reasoning_effort": "low", "temperature": None, "stream_options": None})
    assert sent["reasoning_effort"] == "low"
    assert not {"temperature", "stream_options"} & sent.keys()


@pytest.mark.parametrize(
    ("url", "limit"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1/", "max_completion_tokens"),
        ("https://openrouter.ai/api/v1", "max_tokens"),
    ],
)
def test_openai_is_known_by_its_host(url: str, limit: str) -> None:
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        content = events([chunk("4", finish="stop")])
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content)

    async def main() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
            engine = OpenAIEngine(url, model="gpt-5", api_key="secret", client=client)
            assert engine.name == "openai:gpt-5"
            context = Context().extend(await engine.encode("?"), "?")
            request = Request(id="r-1", context=context, max_tokens=9, sampling=Sampling())
            assert [part.text async for part in engine.complete(request)] == ["4", ""]

    asyncio.run(main())
    assert str(sent[0].url) == f"{url.rstrip('/')}/chat/completions"
    assert sent[0].headers["authorization"] == "Bearer secret"
    assert json.loads(sent[0].content)[limit] == 9


def test_a_server_of_ones_own() -> None:
    sent = body(server=Server(limit="max_completion_tokens", fields={"n": 1}))
    assert (sent["max_completion_tokens"], sent["n"]) == (9, 1)


def test_no_tokens_are_not_asked_for() -> None:
    assert body(max_tokens=0) == {"finish": Finish("length", None, 1, 0, 0)}


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Point(BaseModel):
    """A place."""

    x: int
    y: int | None = None
    name: str = Field(default="", min_length=0, max_length=9, description="what it is called")


class Line(BaseModel):
    start: Point
    ends: list[Point] = []
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


def look(place: Point, depth: int = 1) -> str:
    """Look at a place."""
    return place.name * depth


def assert_strict(schema: Any) -> None:
    """Check what OpenAI's strict mode requires of every object in a schema."""
    if isinstance(schema, list):
        for item in schema:
            assert_strict(item)
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])
        assert not {"default", "oneOf", "discriminator", "maxLength"} & schema.keys()
        for value in schema.values():
            assert_strict(value)


def schema_of(kind: type[BaseModel]) -> str:
    return json.dumps(kind.model_json_schema(), sort_keys=True)


def closed(title: str, properties: dict[str, Any], **others: Any) -> dict[str, Any]:
    found = {"type": "object", "title": title, "properties": properties, "required": list(properties)}
    return found | {"additionalProperties": False} | others


class TestSchemas:
    @pytest.mark.parametrize("server", ["vllm", "sglang", "llama.cpp", "ollama"])
    def test_are_sent_as_they_are(self, server: str) -> None:
        assert body(schema=schema_of(Line), server=server)["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "completion", "schema": Line.model_json_schema(), "strict": True},
        }

    @pytest.mark.parametrize("server", ["openai", "openai-reasoning", "other"])
    def test_are_closed_for_strict_mode(self, server: str) -> None:
        """All properties are required, optional ones are nullable instead, and unknown keywords are removed."""
        name = {"description": "what it is called", "title": "Name", "type": "string"}
        point = {
            "name": {"anyOf": [name, {"type": "null"}]},
            "x": {"title": "X", "type": "integer"},
            "y": {"title": "Y", "anyOf": [{"type": "integer"}, {"type": "null"}]},
        }
        lives = {"title": "Lives", "type": "integer"}
        cat = {
            "kind": {"const": "cat", "title": "Kind", "type": "string"},
            "lives": {"anyOf": [lives, {"type": "null"}]},
        }
        ends = {"title": "Ends", "type": "array", "items": {"$ref": "#/$defs/Point"}}
        line = {
            "ends": {"anyOf": [ends, {"type": "null"}]},
            "pet": {"title": "Pet", "anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]},
            "start": {"$ref": "#/$defs/Point"},
        }
        definitions = {
            "Cat": closed("Cat", cat),
            "Dog": closed("Dog", {"kind": {"const": "dog", "title": "Kind", "type": "string"}}),
            "Point": closed("Point", point, description="A place."),
        }
        sent = body(schema=schema_of(Line), server=server)["response_format"]["json_schema"]
        assert sent == {"name": "completion", "strict": True, "schema": closed("Line", line, **{"$defs": definitions})}

    @pytest.mark.parametrize("strict", [None, True])
    def test_of_a_choice_between_objects_become_one_whose_parts_are_nullable(self, strict: bool | None) -> None:
        """Plans are such a choice, and the root of a strict schema cannot be one."""
        dialect = JsonDialect().bind(Planner(int).brief, Executor(Point, tools=[Tool.of(look)]).brief)
        plan, execution = (
            body(schema=dialect.constraints(role).schema, server="openai", strict=strict)["response_format"][
                "json_schema"
            ]
            for role in ("graph", "execution")
        )
        number = {"type": "integer", "minimum": 1, "maximum": 32}
        after = {"anyOf": [{"type": "array", "items": number, "maxItems": 32}, {"type": "null"}]}
        subtask = {
            "type": "object",
            "properties": {"prompt": {"type": "string"}, "after": after},
            "required": ["prompt", "after"],
            "additionalProperties": False,
        }
        assert plan["strict"] is True
        assert plan["schema"] == {
            "type": "object",
            "properties": {
                "thoughts": {"type": "string"},
                "subtasks": {
                    "anyOf": [{"type": "array", "items": subtask, "minItems": 1, "maxItems": 32}, {"type": "null"}]
                },
                "answer": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            },
            "required": ["thoughts", "subtasks", "answer"],
            "additionalProperties": False,
        }
        assert execution["strict"] is True
        assert list(execution["schema"]["properties"]) == ["thoughts", "result", "call"]
        assert_strict(execution["schema"])

    def test_names_are_no_keywords(self) -> None:
        properties = {"default": {"const": {"default": 1}}, "allOf": {"type": "null"}}
        schema = json.dumps({"type": "object", "properties": properties, "required": ["default"]})
        sent = body(schema=schema, server="openai")["response_format"]["json_schema"]["schema"]
        assert sent["properties"] == properties
        assert sent["required"] == ["default", "allOf"]

    @pytest.mark.parametrize(
        ("schema", "reason"),
        [
            ({"type": "object", "additionalProperties": {"type": "integer"}}, "the whole is a map of any keys"),
            ({"type": "object", "properties": {"a": {"type": "object"}}}, "a is an object of any kind"),
            ({"type": "object", "properties": {"a": {}}}, "a may be anything"),
            ({"type": "object", "properties": {"a": {"allOf": [{"type": "null"}]}}}, "a uses 'allOf'"),
            ({"type": "object", "properties": {"a": {"type": "array", "items": {}}}}, "each item of a may be anything"),
            (
                {"type": "object", "properties": {"a": {"type": "array", "prefixItems": [{"type": "null"}]}}},
                "a uses 'prefixItems'",
            ),
        ],
    )
    class TestWhichStrictModeHasNoWordsFor:
        def test_are_sent_all_the_same_and_nobody_is_held_to_them(self, schema: dict[str, Any], reason: str) -> None:
            for strict in (None, False):
                sent = body(schema=json.dumps(schema), server="openai", strict=strict)["response_format"]
                told = {"name": "completion", "schema": schema, "strict": False}
                assert sent == {"type": "json_schema", "json_schema": told}

        def test_are_refused_to_whoever_insists(self, schema: dict[str, Any], reason: str) -> None:
            with pytest.raises(ConfigurationError, match=f"cannot express .*: {reason}. Declare its fields"):
                body(schema=json.dumps(schema), server="openai", strict=True)

    @pytest.mark.parametrize("schema", [{"type": "string"}, {"anyOf": [{"type": "null"}, {"type": "string"}]}])
    def test_of_no_object_become_json_of_any_kind(self, schema: dict[str, Any]) -> None:
        assert body(schema=json.dumps(schema), server="openai")["response_format"] == {"type": "json_object"}
        with pytest.raises(ConfigurationError, match="the whole is not an object"):
            body(schema=json.dumps(schema), server="openai", strict=True)

    def test_that_cannot_be_had_are_found_before_anything_runs(self) -> None:
        engine = OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", server="openai", strict=True)
        sprint = Sprint(engine, executor=Executor(dict[str, int]))
        with pytest.raises(ConfigurationError, match=r"schema of an execution: result is a map of any keys") as caught:
            sprint.run_sync("Count.")
        assert caught.value.run is None
        with pytest.raises(ConfigurationError, match="schema of a plan: each item of answer may be anything"):
            Sprint(engine, planner=Planner(list[Any]), executor=Executor(int, instructions="Add."))

    def test_are_refused_where_the_server_takes_none(self) -> None:
        server = Server(schemas="none")
        assert not OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", server=server).capabilities.schemas
        with pytest.raises(ConfigurationError, match="no JSON schema"):
            body(schema=schema_of(Line), server=server)

    @pytest.mark.parametrize("schema", ["{", "[]", "true"])
    def test_that_are_none(self, schema: str) -> None:
        with pytest.raises(InvalidRequest, match="schema"):
            body(schema=schema)


class TestMistakes:
    def test_options_that_do_not_go_together(self) -> None:
        url = "http://127.0.0.1:1/v1"
        with pytest.raises(ConfigurationError, match="strict=True, and this server takes no JSON schema"):
            OpenAIEngine(url, model="tiny", server=Server(schemas="none"), strict=True)
        with pytest.raises(ConfigurationError, match="tools= of OpenAIEngine is 'some': pass 'written' or 'native'"):
            OpenAIEngine(url, model="tiny", tools="some")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="tools='native' needs api='chat'"):
            OpenAIEngine(url, model="tiny", api="completions", tools="native")

    def test_no_model(self) -> None:
        with pytest.raises(ConfigurationError, match="name the model"):
            OpenAIEngine("http://127.0.0.1:1/v1", model="")

    def test_no_such_kind_of_server(self) -> None:
        with pytest.raises(ConfigurationError, match=r"'lamma'.*llama\.cpp"):
            OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", server="lamma")  # type: ignore[arg-type]

    def test_no_url(self) -> None:
        with pytest.raises(ConfigurationError, match="is not the URL"):
            OpenAIEngine("api.openai.com", model="tiny")
