"""Types that no grammar can say in full: engines hold a model to a weaker schema."""

import json
from datetime import date, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AnyUrl, Base64Bytes, BaseModel, ConfigDict, Field, Json, SecretStr, TypeAdapter

from sprint_agents import Executor
from sprint_agents.engines.openai.server import SERVERS, Target
from sprint_agents.engines.schemas import is_portable, portable_schema, weaken
from sprint_agents.errors import InvalidRequest

TYPES_89B = pytest.mark.reported("ggml-org/llama.cpp#26939", "existential-birds/daydream#304")
REFUSED = pytest.mark.reported("sgl-project/sglang#37839", "sgl-project/sglang#40083", "vllm-project/vllm#49996")


class LooksAhead(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")

    word: Annotated[str, Field(pattern=r"^(?=.*\d)[a-z0-9]+$", max_length=9)]


class Tree(BaseModel):
    name: Annotated[str, Field(pattern=r"\bx\b")]
    parts: "set[Tree]" = Field(default=set(), max_length=2)

    def __hash__(self) -> int:
        return hash(self.name)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(multiple_of=3, ge=-(10**30), le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    tags: Annotated[frozenset[str], Field(min_length=1)]


def extra(declared: Any, **keywords: Any) -> Any:
    return Annotated[declared, Field(json_schema_extra=keywords)]


# A type, and JSON that validates.
CASES: list[tuple[Any, str]] = [
    (set[bool], "[true, false]"),
    (Annotated[frozenset[int], Field(min_length=2, max_length=3)], "[1, 2]"),
    (bytes, '"abc"'),
    (Base64Bytes, '"YWJj"'),
    (SecretStr, '"secret"'),
    (Path, '"/tmp"'),
    (IPv4Network, '"10.0.0.0/8"'),
    (AnyUrl, '"https://example.org/"'),
    (Json, '"[1]"'),
    (date, '"2025-01-31"'),
    (timedelta, '"P1DT2H"'),
    (Annotated[str, Field(pattern=r"\bfoo\b")], '"a foo"'),
    (Annotated[str, Field(pattern=r"^\p{L}+$")], '"aé"'),
    (Annotated[str, Field(pattern="^a+$", min_length=2, max_length=3)], '"aa"'),
    (LooksAhead, '{"word": "a1"}'),
    (Annotated[int, Field(ge=10**30)], "1" + "0" * 30),
    (Annotated[int, Field(lt=-(10**30))], "-2" + "0" * 30),
    (Annotated[float, Field(gt=1e300)], "1e301"),
    (Annotated[float, Field(multiple_of=0.5)], "1.5"),
    (Annotated[int, Field(multiple_of=10**30)], "1" + "0" * 30),
    (dict[Literal["a", "b"], int], '{"a": 1}'),
    (dict[Annotated[str, Field(pattern="^a+$")], set[int]], '{"aa": [1]}'),
    (Annotated[dict[str, int], Field(min_length=1, max_length=2)], '{"a": 1}'),
    (Annotated[Cat | Dog, Field(discriminator="kind")], '{"kind": "dog", "tags": ["a"]}'),
    (list[Cat | Dog | None], '[{"kind": "cat", "lives": 9}, null]'),
    (Tree, '{"name": "x", "parts": [{"name": "a x", "parts": []}]}'),
    (tuple[set[int], str], '[[1], "a"]'),
    (extra(dict[str, int], minProperties=1, dependentRequired={"a": ["b"]}), '{"a": 1, "b": 2}'),
    (extra(dict[str, int], **{"if": {"required": ["a"]}, "then": {"required": ["b"]}}), '{"b": 1}'),
    (extra(list[int], contains={"const": 3}, minContains=1), "[3]"),
    (extra(str, **{"not": {"const": "x"}}), '"y"'),
    (extra(int, oneOf=[{"minimum": 3}, {"maximum": 5}]), "7"),
    (extra(int, allOf=[{"minimum": 3}, {"multipleOf": 2}]), "4"),
    (extra(str, format="isbn", contentEncoding="base64"), '"x"'),
    (extra(dict[str, int], unevaluatedProperties=False), '{"a": 1}'),
    (extra(int, **{"x-mine": True}), "1"),
]
IDS = [f"{number}" for number in range(len(CASES))]


def nodes(schema: Any) -> list[dict[str, Any]]:
    """Every object in a schema that is itself a schema, or holds some."""
    if isinstance(schema, list):
        return [node for part in schema for node in nodes(part)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(node for part in schema.values() for node in nodes(part))]


@TYPES_89B
@pytest.mark.local
@pytest.mark.parametrize(("declared", "value"), CASES, ids=IDS)
def test_the_embedded_engine_holds_a_model_to_what_its_grammar_can_say(declared: Any, value: str) -> None:
    pytest.importorskip("llguidance")
    from llguidance import LLMatcher, LLTokenizer

    from sprint_agents.engines.local.grammar import _rules, check_schema

    agent = Executor(declared)
    agent.read(value, is_json=True)
    assert agent.schema is not None
    check_schema(agent.schema)
    text = json.dumps(json.loads(value), ensure_ascii=False)
    for allowed, written in ((True, text), (False, "maybe")):
        matcher = LLMatcher(LLTokenizer("byte"), _rules(agent.schema))
        assert all(matcher.consume_token(token) for token in written.encode()) is allowed
        assert matcher.is_accepting() is allowed


@REFUSED
@pytest.mark.parametrize(("declared", "value"), CASES, ids=IDS)
def test_servers_get_no_keyword_that_their_grammar_might_refuse(declared: Any, value: str) -> None:
    schema = Executor(declared).schema
    assert schema is not None
    found = json.loads(portable_schema(schema))
    unsupported = {
        "uniqueItems",
        "multipleOf",
        "contains",
        "minContains",
        "not",
        "if",
        "then",
        "dependentRequired",
        "propertyNames",
        "patternProperties",
        "unevaluatedProperties",
        "x-mine",
    }
    for node in nodes(found):
        assert not unsupported & node.keys() or "type" not in node
        bounds = {key: value for key, value in node.items() if key in ("pattern", "format", "minLength", "maximum")}
        assert is_portable(bounds)


@REFUSED
def test_each_engine_sends_the_weakened_schema() -> None:
    unique = '{"type":"array","items":{"type":"integer"},"uniqueItems":true}'
    weak = '{"type":"array","items":{"type":"integer"}}'
    for name in ("vllm", "sglang", "llama.cpp", "ollama"):
        target = Target("m", SERVERS[name], {}, None)
        assert target.express(unique, what="a plan") == (json.loads(weak), True)
        assert target.format_of(unique)["json_schema"]["schema"] == json.loads(weak)  # type: ignore[index, call-overload]
    assert '"uniqueItems"' not in portable_schema(unique)


def test_a_schema_that_servers_understand_is_sent_byte_for_byte() -> None:
    class Finding(BaseModel):
        title: Annotated[str, Field(min_length=1, description="what it is")]
        score: Annotated[float, Field(ge=0, le=1)]
        tags: list[Literal["a", "b"]] = []

    schema = Executor(Finding).schema
    assert schema is not None
    assert portable_schema(schema) == schema
    spaced = '{ "type" : "integer" }'
    assert portable_schema(spaced) == spaced


def test_only_what_is_not_supported_is_left_out() -> None:
    schema = TypeAdapter(Annotated[set[int], Field(min_length=2, max_length=4)]).json_schema()
    found = weaken(schema, is_portable)
    assert schema.keys() - found.keys() == {"uniqueItems"}
    assert {key: schema[key] for key in found} == found


def test_names_are_not_keywords() -> None:
    """Properties, definitions and constants may be named as keywords are."""
    schema = {
        "type": "object",
        "properties": {"not": {"type": "string"}, "uniqueItems": {"const": {"not": 1}}},
        "required": ["not"],
        "$defs": {"contains": {"enum": [{"multipleOf": 2}]}},
    }
    assert weaken(schema, is_portable) == schema


def test_what_is_negated_is_not_weakened() -> None:
    """``not`` of a weaker schema would forbid more."""
    assert weaken({"type": "string", "not": {"minLength": 3, "pattern": "(?=x)"}}, is_portable) == {"type": "string"}


@pytest.mark.parametrize("schema", ["[", "[]", "3", "true"])
def test_what_is_no_schema(schema: str) -> None:
    with pytest.raises(InvalidRequest, match="the schema of a request is not"):
        portable_schema(schema)
