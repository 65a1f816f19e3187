"""A JSON schema in the form that OpenAI's strict mode takes (API guide "Structured Outputs", supported schemas).

There the whole is one object, every object names all of its properties as required and allows no others, and only some
keywords are known. So what may be left out becomes nullable, and null is what says that it is left out; a choice
between objects becomes one object whose parts are nullable. What strict mode does not know of bounds is dropped:
whoever asked validates anyway. Open maps, tuples and values of any kind cannot be said at all.
"""

import json
from typing import Any, cast

from sprint_agents.errors import InvalidRequest

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        "type",
        "description",
        "title",
        "enum",
        "const",
        "pattern",
        "multipleOf",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minItems",
        "maxItems",
    }
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"},
)
_INEXPRESSIBLE = (
    "allOf",
    "not",
    "if",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "prefixItems",
    "contains",
)
_NULL: Schema = {"type": "null"}


class NotStrict(ValueError):
    """Strict mode has no words for a schema; the message names the place and the reason."""


def parsed(schema: str) -> Schema:
    """Read a schema from its text.

    Raises:
        InvalidRequest: it is no JSON object.
    """
    try:
        value = json.loads(schema)
    except ValueError as error:
        raise InvalidRequest(f"the schema of a request is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"the schema of a request is no JSON object but {schema[:80]!r}")
    return cast(Schema, value)


def strict(schema: Schema) -> Schema:
    """Write a schema for strict mode; what is optional in it comes back as null where it is left out.

    >>> strict({"type": "object", "properties": {"n": {"type": "integer", "default": 1}}})["properties"]
    {'n': {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}}
    >>> strict({"type": "object", "additionalProperties": {"type": "integer"}})
    Traceback (most recent call last):
    sprint_agents.engines.openai.schema.NotStrict: the whole is a map of any keys

    Raises:
        NotStrict: strict mode has no words for it.
    """
    whole = merged(schema)
    if whole.get("type") != "object":
        raise NotStrict("the whole is no object")
    return _closed(whole, whole, "the whole")


def merged(schema: Schema) -> Schema:
    """Make one object of a choice between objects: each part that is not in all of them may be left out.

    >>> a, b = ({"type": "object", "properties": {k: {"type": "null"}}, "required": [k]} for k in "ab")
    >>> merged({"anyOf": [a, b]})["required"], list(merged({"anyOf": [a, b]})["properties"])
    ([], ['a', 'b'])
    """
    choices = schema.get("anyOf")
    if not isinstance(choices, list) or not all(_is_object(choice) for choice in cast(list[Any], choices)):
        return schema
    objects = cast(list[Schema], choices)
    properties: Schema = {}
    for choice in objects:
        for name, value in choice["properties"].items():
            if properties.setdefault(name, value) != value:
                properties[name] = {"anyOf": [properties[name], value]}
    required = [name for name in properties if all(name in choice.get("required", ()) for choice in objects)]
    others = {key: value for key, value in schema.items() if key != "anyOf"}
    return others | {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _is_object(schema: Any) -> bool:
    return isinstance(schema, dict) and cast(Schema, schema).get("type") == "object" and "properties" in schema


def _closed(schema: Schema, root: Schema, place: str) -> Schema:
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # strict mode wants it alone
    if not schema:
        raise NotStrict(f"{place} may be anything")
    if unsaid := next((key for key in _INEXPRESSIBLE if key in schema), None):
        raise NotStrict(f"{place} is said by {unsaid!r}")
    found: Schema = {key: value for key, value in schema.items() if key in _KEPT}
    if schema.get("format") in _FORMATS:
        found["format"] = schema["format"]
    if choices := schema.get("anyOf", schema.get("oneOf")):
        found["anyOf"] = [_closed(choice, root, f"a choice of {place}") for choice in choices]
    if definitions := schema.get("$defs"):
        found["$defs"] = {name: _closed(item, root, name) for name, item in definitions.items()}
    if schema.get("type") == "array":
        found["items"] = _closed(schema.get("items", {}), root, f"each item of {place}")
    if schema.get("type") == "object":
        found |= _closed_object(schema, root, place)
    return found


def _closed_object(schema: Schema, root: Schema, place: str) -> Schema:
    if schema.get("additionalProperties"):
        raise NotStrict(f"{place} is a map of any keys")
    properties: Schema = schema.get("properties", {})
    required = schema.get("required", ())
    if not properties and "additionalProperties" not in schema:
        raise NotStrict(f"{place} is an object of any kind")
    found: Schema = {}
    for name, value in properties.items():
        part = _closed(value, root, name if place == "the whole" else f"{place}.{name}")
        found[name] = part if name in required or _nullable(value, root) else {"anyOf": [part, _NULL]}
    return {"properties": found, "required": list(found), "additionalProperties": False}


def _nullable(schema: Schema, root: Schema) -> bool:
    """Whether null is one of the values that a schema allows."""
    if reference := schema.get("$ref"):
        target = root.get("$defs", {}).get(str(reference).removeprefix("#/$defs/"), {})
        return "$ref" not in target and _nullable(target, root)
    choices = cast(list[Schema], schema.get("anyOf", schema.get("oneOf", [])))
    kind = schema.get("type")
    kinds = cast(list[Any], kind) if isinstance(kind, list) else [kind]
    const = "const" in schema and schema["const"] is None
    return const or "null" in kinds or None in schema.get("enum", ()) or any(_nullable(each, root) for each in choices)
