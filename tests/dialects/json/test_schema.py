"""The schemas, checked by a reader of the part of JSON Schema that they use."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from sprint_agents.dialects.base import AgentBrief
from sprint_agents.dialects.json.dialect import JsonDialect
from sprint_agents.dialects.json.words import load_words
from sprint_agents.engine import ToolBrief


class Node(BaseModel):
    value: int
    children: "list[Node]" = []


@dataclass
class Point:
    x: int
    y: int


def brief(declared: Any, *tools: ToolBrief) -> AgentBrief:
    schema = None if declared is str else json.dumps(TypeAdapter(declared).json_schema())
    return AgentBrief(schema=schema, tools=tools)


def dialect(answer: Any = str, result: Any = str, *tools: ToolBrief) -> JsonDialect:
    return JsonDialect(planner=brief(answer), executor=brief(result, *tools))


def satisfies(value: Any, schema: Any, root: Any) -> bool:
    if "$ref" in schema:
        target = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        return satisfies(value, target, root)
    if "anyOf" in schema:
        return any(satisfies(value, choice, root) for choice in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    match schema.get("type"):
        case "object":
            known, required = schema["properties"], schema.get("required", [])
            closed = schema.get("additionalProperties") is False and set(value) - set(known) if value else False
            return (
                isinstance(value, dict)
                and not closed
                and all(key in value for key in required)
                and all(satisfies(item, known[key], root) for key, item in value.items() if key in known)
            )
        case "array":
            return (
                isinstance(value, list)
                and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
                and all(satisfies(item, schema["items"], root) for item in value)
            )
        case "string":
            return isinstance(value, str) and len(value) <= schema.get("maxLength", len(value))
        case "integer":
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and schema.get("minimum", value) <= value <= schema.get("maximum", value)
        case unknown:
            raise AssertionError(f"this reader knows no {unknown!r}")


def check(written: str, schema: str | None) -> bool:
    assert schema is not None
    root = json.loads(schema)
    return satisfies(json.loads(written), root, root)


@pytest.mark.parametrize(
    ("written", "valid"),
    [
        ('{"thoughts": "so", "subtasks": [{"prompt": "a"}, {"prompt": "b"}]}', True),
        ('{"thoughts": "so", "answer": 3}', True),
        ('{"subtasks": [{"prompt": "a"}]}', False),
        ('{"answer": 3}', False),
        ('{"thoughts": "so", "answer": "3"}', False),
        ('{"thoughts": "so", "subtasks": []}', False),
        ('{"thoughts": "so", "subtasks": [{}]}', False),
        ('{"thoughts": "so", "subtasks": [{"prompt": "a"}, {"prompt": "b", "after": [1]}]}', False),
        ('{"thoughts": "so", "subtasks": [{"prompt": "a"}], "answer": 3}', False),
        ('{"thoughts": "so"}', False),
    ],
)
def test_a_plan_or_an_answer(written: str, valid: bool) -> None:
    assert check(written, dialect(int).constraints("plan").schema) is valid


@pytest.mark.parametrize(
    ("after", "valid"), [("", True), (', "after": [1]', True), (', "after": [0]', False), (', "after": [33]', False)]
)
def test_only_a_graph_has_dependencies(after: str, valid: bool) -> None:
    written = f'{{"thoughts": "so", "subtasks": [{{"prompt": "a"}}, {{"prompt": "b"{after}}}]}}'
    assert check(written, dialect().constraints("graph").schema) is valid
    assert check(written, dialect().constraints("plan").schema) is not bool(after)


@pytest.mark.parametrize(
    ("executor", "valid"), [(AgentBrief(), False), (AgentBrief(tools=(ToolBrief("f", "", "{}"),)), True), (None, True)]
)
def test_one_subtask_makes_a_plan_only_where_the_executor_can_do_more(executor: AgentBrief | None, valid: bool) -> None:
    schema = JsonDialect(executor=executor).constraints("plan").schema
    assert check('{"thoughts": "so", "subtasks": [{"prompt": "a"}]}', schema) is valid


def test_lists_are_bounded() -> None:
    """A small model that repeats itself in a list does not fill its whole turn with it."""
    many = ", ".join(['{"prompt": "a", "after": [1]}'] * 33)
    assert not check(f'{{"thoughts": "so", "subtasks": [{many}]}}', dialect().constraints("graph").schema)
    many = ", ".join(["1"] * 33)
    written = f'{{"thoughts": "so", "subtasks": [{{"prompt": "a", "after": [{many}]}}]}}'
    assert not check(written, dialect().constraints("graph").schema)


def test_thoughts_leave_room_in_a_short_turn() -> None:
    """A small model that loops in its thoughts still ends them; a long turn has room for a long thought."""
    short, long = (AgentBrief(max_tokens=tokens) for tokens in (100, 8000))
    for written, role, most in (
        ('{{"thoughts": "{0}", "subtasks": [{{"prompt": "a"}}, {{"prompt": "b"}}]}}', "plan", 12),
        ('{{"thoughts": "", "subtasks": [{{"prompt": "a"}}, {{"prompt": "{0}"}}]}}', "plan", 25),
        ('{{"thoughts": "{0}", "answer": "a"}}', "answer", 25),
        ('{{"thoughts": "{0}", "result": "a"}}', "execution", 25),
    ):
        for brief, fits in ((short, False), (long, True)):
            schema = JsonDialect(planner=brief, executor=brief).constraints(role).schema
            assert check(written.format("x" * most), schema)
            assert check(written.format("x" * (most + 1)), schema) is fits
            assert "maxLength" not in str(JsonDialect(words=load_words(1), planner=brief).constraints(role).schema)


@pytest.mark.parametrize(
    ("plan", "answer", "most"), [(8000, 60, 15), (None, 60, 15), (40, 60, 10), (400, 2000, 100), (8000, 2000, None)]
)
def test_thoughts_leave_room_in_a_short_answer(plan: int | None, answer: int, most: int | None) -> None:
    brief = AgentBrief(max_tokens=plan, answer_tokens=answer)
    schema = json.loads(JsonDialect(planner=brief).constraints("answer").schema or "")
    assert schema["properties"]["thoughts"].get("maxLength") == most


@pytest.mark.parametrize(("tokens", "most"), [(100, 2), (400, 3), (2000, 8), (8000, 32)])
def test_a_short_turn_has_room_for_few_subtasks(tokens: int, most: int) -> None:
    schema = JsonDialect(planner=AgentBrief(max_tokens=tokens), executor=AgentBrief()).constraints("plan").schema
    for count in (most, most + 1):
        prompts = ", ".join(['{"prompt": "a"}'] * count)
        assert check(f'{{"thoughts": "so", "subtasks": [{prompts}]}}', schema) is (count == most)


@pytest.mark.parametrize("tokens", [100, 200, 400, 1000, 2000])
def test_a_plan_of_digits_ends_within_its_turn(tokens: int) -> None:
    """Where a model loops, each character may be a token: all that a schema allows is fewer characters."""
    brief = AgentBrief(schema="{}", max_tokens=tokens)
    schema = json.loads(JsonDialect(planner=brief, executor=AgentBrief()).constraints("plan").schema or "")
    plan = schema["anyOf"][0]["properties"]
    prompt = {"prompt": "1" * plan["subtasks"]["items"]["properties"]["prompt"]["maxLength"]}
    longest = {"thoughts": "1" * plan["thoughts"]["maxLength"], "subtasks": [prompt] * plan["subtasks"]["maxItems"]}
    markup = len(json.dumps(longest)) - json.dumps(longest).count("1")
    assert len(json.dumps(longest)) - markup + markup // 3 < tokens  # no key or quote of it is a token by itself


OPEN = {"type": "object", "properties": {"a": {"$ref": "#/$defs/In"}}, "additionalProperties": True}
INNER = {"type": "object", "properties": {"properties": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ({"a": {"properties": 1}}, True),
        ({"a": {"properties": 1}, "b": 1}, True),
        ({"a": {"properties": 1, "b": 1}}, False),
    ],
)
def test_objects_are_closed_unless_their_type_takes_more(value: object, valid: bool) -> None:
    brief = AgentBrief(schema=json.dumps(OPEN | {"$defs": {"In": INNER}}))
    for words in (load_words(1), load_words(2)):
        schema = JsonDialect(words=words, planner=brief).constraints("answer").schema
        written = json.dumps({"thoughts": "so", "answer": value})
        assert check(written, schema) is (valid or words == load_words(1))


def test_parts_of_one_object_stay_open() -> None:
    parts = [{"properties": {key: {"type": "integer"}}} for key in "bc"]
    for keyword in ("anyOf", "allOf"):
        whole = {"type": "object", "properties": {"a": {"type": "integer"}}, keyword: parts}
        schema = JsonDialect(planner=AgentBrief(schema=json.dumps(whole))).constraints("answer").schema
        assert json.dumps(whole, separators=(",", ":")) in str(schema)


def test_the_first_version_is_as_it_was() -> None:
    """Checkpoints are trained on a version."""
    first = JsonDialect(words=load_words(1))
    for role in ("plan", "graph"):
        assert check('{"subtasks": [{"prompt": "a", "after": [1]}]}', first.constraints(role).schema)
    assert "after" in first.write_task("Add up.")
    assert '"after"' not in JsonDialect().write_task("Add up.")
    assert '"after"' not in JsonDialect().write_opening(1, "plan")
    assert '"after"' in JsonDialect().write_opening(1, "graph")


@pytest.mark.parametrize(
    ("written", "valid"),
    [
        ('{"thoughts": "", "answer": {"x": 1, "y": 2}}', True),
        ('{"thoughts": "", "answer": {"x": 1}}', False),
        ('{"x": 1, "y": 2}', False),
    ],
)
def test_an_answer(written: str, valid: bool) -> None:
    assert check(written, dialect(Point).constraints("answer").schema) is valid


READ = ToolBrief("read", "Read a file.", json.dumps(TypeAdapter(Point).json_schema()))
FIND_ARGUMENTS = {
    "type": "object",
    "properties": {"in": {"$ref": "#/$defs/Node"}},
    "required": ["in"],
    "$defs": {"Node": {"type": "string"}},
}
FIND = ToolBrief("find", "", json.dumps(FIND_ARGUMENTS))


@pytest.mark.parametrize(
    ("written", "valid"),
    [
        ('{"thoughts": "", "result": {"value": 1, "children": [{"value": 2}]}}', True),
        ('{"thoughts": "", "result": {"value": 1, "children": [{"value": "2"}]}}', False),
        (
            '{"thoughts": "", "call": [{"tool": "read", "arguments": {"x": 1, "y": 2}}, '
            '{"tool": "find", "arguments": {"in": "a"}}]}',
            True,
        ),
        ('{"call": [{"tool": "find", "arguments": {"in": {"value": 1}}}]}', False),
        ('{"call": [{"tool": "write", "arguments": {}}]}', False),
        ('{"call": []}', False),
    ],
)
def test_a_result_or_calls_of_tools(written: str, valid: bool) -> None:
    """Definitions of one name, of the result and of a tool, are kept apart."""
    assert check(written, dialect(int, Node, READ, FIND).constraints("execution").schema) is valid


def test_without_tools_there_are_no_calls() -> None:
    assert not check('{"call": [{"tool": "read", "arguments": {}}]}', dialect().constraints("execution").schema)
    assert check('{"thoughts": "", "result": "a text"}', dialect().constraints("execution").schema)


def test_a_program_needs_no_schema() -> None:
    assert JsonDialect(planner=brief(int)).constraints("execution").schema is None


def test_thoughts_come_first() -> None:
    schema = json.loads(dialect(Literal["a", "b"]).constraints("plan").schema or "")
    for turn in schema["anyOf"]:
        assert next(iter(turn["properties"])) == "thoughts"
        assert turn["required"][0] == "thoughts"
