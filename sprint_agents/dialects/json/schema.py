"""The JSON schemas of what a model writes, around those of the planner's answer and the executor's result."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from pydantic import JsonValue

from sprint_agents.dialects.base import AgentBrief
from sprint_agents.engine import ToolBrief

from .words import JsonKeys, JsonWords

Schema = dict[str, JsonValue]

_TEXT: Schema = {"type": "string"}
_SHORT_TURN = 2000
"""Tokens. llama.cpp accepts no greater bound on the length of a text, and longer turns have room for a long thought."""
_LONGEST_PROMPT = 200
"""Characters of a prompt in a short turn."""
_MARKUP, _PROMPT_MARKUP = 20, 8
"""Tokens of keys, quotes and brackets: around a turn, and around a prompt in it."""
_SHARE, _PLAN_SHARE = 4, 8
"""Thoughts have this part of a short turn, or of one that also has prompts."""
_COMPOSED = ("$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "unevaluatedProperties")
"""Keywords that may describe further properties of an object."""
_MAPS_OF_PARTS = ("properties", "$defs", "definitions")
_PARTS = ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf")


@lru_cache(maxsize=256)
def plan_schema(words: JsonWords, planner: AgentBrief, executor: AgentBrief | None, *, graph: bool = False) -> str:
    """Return the schema of a plan or an answer; in a ``graph``, subtasks may wait for others.

    A schema cannot say that these are earlier ones: the reader ignores all others. A plan has two subtasks at least,
    unless the executor can do what the planner cannot: it is a program, or has tools. Without this rule, two of nine
    plans of SmolLM2-135M had one, which saves nothing.
    """
    parts, keys, form = _Definitions(words), words.keys, words.format
    alike = form.thoughts == "required" and executor is not None and not executor.tools
    fewest = 2 if alike else 1
    bounds: Schema = {} if form.most is None else {"maxItems": form.most}
    prompt, most = _TEXT, dict(bounds)
    if form.most is not None and (limit := _short_turn(planner)):
        length = min(limit // 4, _LONGEST_PROMPT)
        room = limit - limit // _PLAN_SHARE - _MARKUP
        prompt = _TEXT | {"maxLength": length}
        most = {"maxItems": min(form.most, max(fewest, room // (length + _PROMPT_MARKUP)))}
    subtask = {keys.prompt[0]: prompt}
    if graph or form.after == "always":
        number: Schema = {"type": "integer"}
        if form.most is not None:
            number |= {"minimum": 1, "maximum": form.most}
        subtask[keys.after[0]] = _array(number, **bounds)
    subtasks = _array(_object(subtask, optional=keys.after[0]), minItems=fewest, **most)
    answer = parts.embed(planner.schema, "answer")
    turns = {keys.subtasks[0]: subtasks, keys.answer[0]: answer}
    return parts.written([_turn(words, planner, key, value, share=_PLAN_SHARE) for key, value in turns.items()])


@lru_cache(maxsize=256)
def answer_schema(words: JsonWords, planner: AgentBrief) -> str:
    """Return the schema of an answer.

    Its thoughts are bounded as those of a plan, or more if it may have fewer tokens.
    """
    parts = _Definitions(words)
    limit = planner.answer_tokens
    if limit and limit < min(planner.max_tokens or _SHORT_TURN, _SHORT_TURN):
        planner = replace(planner, max_tokens=limit)
    return parts.written([_turn(words, planner, words.keys.answer[0], parts.embed(planner.schema, "answer"))])


@lru_cache(maxsize=256)
def execution_schema(words: JsonWords, executor: AgentBrief, *, calls: bool = True) -> str:
    """Return the schema of a result, or of ``calls`` if there are tools and the model writes calls itself."""
    parts = _Definitions(words)
    turns = [_turn(words, executor, words.keys.result[0], parts.embed(executor.schema, "result"))]
    if executor.tools and calls:
        one = _any([_call(words.keys, tool, parts) for tool in executor.tools])
        turns.append(_turn(words, executor, words.keys.call[0], _array(one, minItems=1)))
    return parts.written(turns)


def _call(keys: JsonKeys, tool: ToolBrief, parts: "_Definitions") -> Schema:
    arguments = parts.embed(tool.schema, tool.name)
    return _object({keys.tool[0]: {"type": "string", "enum": [tool.name]}, keys.arguments[0]: arguments})


def _turn(words: JsonWords, agent: AgentBrief, key: str, value: Schema, *, share: int = _SHARE) -> Schema:
    thoughts = words.keys.thoughts[0]
    if words.format.thoughts == "optional":
        return _object({thoughts: _TEXT, key: value}, optional=thoughts)
    return _object({thoughts: _TEXT | _bound(agent, share), key: value})


def _short_turn(agent: AgentBrief) -> int:
    """Return the tokens of an agent's turn if they are few, otherwise 0."""
    return agent.max_tokens if agent.max_tokens and agent.max_tokens <= _SHORT_TURN else 0


def _bound(agent: AgentBrief, share: int) -> Schema:
    """Bound the thoughts of a short turn, so that a model which loops in them still ends the turn.

    A small model may loop in digits, and then each character is a token. So the characters that the schema of a plan
    allows are fewer than its tokens: of 400, 50 in the thoughts and 100 in each of at most three prompts.
    """
    limit = _short_turn(agent)
    return {"maxLength": limit // share} if limit else {}


def _object(properties: dict[str, Schema], *, optional: str = "") -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [key for key in properties if key != optional],
        "additionalProperties": False,
    }


def _array(items: Schema, **bounds: JsonValue) -> Schema:
    return {"type": "array", "items": items, **bounds}


def _any(schemas: Sequence[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


class _Definitions:
    """Collects the definitions of several schemas under names that do not collide.

    Where thoughts are required, objects are closed: a type ignores properties that its schema does not name, and a
    small model adds them without end.
    """

    def __init__(self, words: JsonWords) -> None:
        self._definitions: Schema = {}
        self._closes = words.format.thoughts == "required"

    def embed(self, schema: str | None, name: str) -> Schema:
        """Return a schema, given as text, for use in another; None means a text."""
        if schema is None:
            return _TEXT
        inner: Schema = json.loads(schema)
        if self._closes and '"allOf"' not in schema:
            _close(inner)
        definitions = inner.pop("$defs", {})
        assert isinstance(definitions, dict)
        names = {f"#/$defs/{key}": f"{name}_{key}" for key in definitions}
        for key, value in definitions.items():
            self._definitions[f"{name}_{key}"] = _renamed(value, names)
        renamed = _renamed(inner, names)
        assert isinstance(renamed, dict)
        return renamed

    def written(self, turns: Sequence[Schema]) -> str:
        """Write the schema of one of ``turns``; a model writes keys in their order here."""
        schema = _any(turns) | ({"$defs": self._definitions} if self._definitions else {})
        return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _close(schema: JsonValue) -> None:
    """Allow no other properties in objects whose schema does not say whether there may be others."""
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    if not isinstance(schema, dict):
        return
    composed = any(key in schema for key in _COMPOSED)
    if "properties" in schema and not composed:
        schema.setdefault("additionalProperties", False)
    for key, value in schema.items():
        if key in _MAPS_OF_PARTS and isinstance(value, dict):
            _close([*value.values()])
        elif key in _PARTS and not (composed and "properties" in schema):
            _close(value)


def _renamed(schema: JsonValue, names: dict[str, str]) -> JsonValue:
    if isinstance(schema, list):
        return [_renamed(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    target = schema.get("$ref")
    renamed = {key: _renamed(value, names) for key, value in schema.items()}
    if isinstance(target, str) and target in names:
        renamed["$ref"] = f"#/$defs/{names[target]}"
    return renamed
