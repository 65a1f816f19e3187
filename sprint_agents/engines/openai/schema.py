"""JSON schemas in the form of OpenAI's strict mode (API guide "Structured Outputs", supported schemas).

In strict mode the whole is one object, every object requires all of its properties and allows no others, and only some
keywords are known. So an optional property becomes nullable, and null means that it was omitted. A choice between
objects becomes one object whose parts are nullable. Bounds that strict mode does not know are dropped, because the
caller validates the value anyway. Open maps, tuples and values of any type cannot be expressed.
"""

from typing import Any, cast

from sprint_agents.engines.schemas import JsonSchema

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
_NULL: JsonSchema = {"type": "null"}


class NotStrict(ValueError):
    """Strict mode cannot express a schema; the message names the place and the reason."""


def make_strict(schema: JsonSchema) -> JsonSchema:
    """Return a schema for strict mode; the model writes null for an optional property that it omits.

    >>> make_strict({"type": "object", "properties": {"n": {"type": "integer", "default": 1}}})["properties"]
    {'n': {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}}
    >>> make_strict({"type": "object", "additionalProperties": {"type": "integer"}})
    Traceback (most recent call last):
    sprint_agents.engines.openai.schema.NotStrict: the whole is a map of any keys

    Raises:
        NotStrict: strict mode cannot express it.
    """
    whole = merge_choices(schema)
    if whole.get("type") != "object":
        raise NotStrict("the whole is not an object")
    return _closed(whole, whole, "the whole")


def merge_choices(schema: JsonSchema) -> JsonSchema:
    """Return one object instead of a choice between objects; parts that are not in all of them become optional.

    >>> a, b = ({"type": "object", "properties": {k: {"type": "null"}}, "required": [k]} for k in "ab")
    >>> merge_choices({"anyOf": [a, b]})["required"], list(merge_choices({"anyOf": [a, b]})["properties"])
    ([], ['a', 'b'])
    """
    choices = schema.get("anyOf")
    if not isinstance(choices, list) or not all(_is_object(choice) for choice in cast(list[Any], choices)):
        return schema
    objects = cast(list[JsonSchema], choices)
    properties: JsonSchema = {}
    for choice in objects:
        for name, value in choice["properties"].items():
            if properties.setdefault(name, value) != value:
                properties[name] = {"anyOf": [properties[name], value]}
    required = [name for name in properties if all(name in choice.get("required", ()) for choice in objects)]
    others = {key: value for key, value in schema.items() if key != "anyOf"}
    return others | {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _is_object(schema: Any) -> bool:
    return isinstance(schema, dict) and cast(JsonSchema, schema).get("type") == "object" and "properties" in schema


def _closed(schema: JsonSchema, root: JsonSchema, place: str) -> JsonSchema:
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # strict mode allows no other key beside it
    if not schema:
        raise NotStrict(f"{place} may be anything")
    if keyword := next((key for key in _INEXPRESSIBLE if key in schema), None):
        raise NotStrict(f"{place} uses {keyword!r}")
    found: JsonSchema = {key: value for key, value in schema.items() if key in _KEPT}
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


def _closed_object(schema: JsonSchema, root: JsonSchema, place: str) -> JsonSchema:
    if schema.get("additionalProperties"):
        raise NotStrict(f"{place} is a map of any keys")
    properties: JsonSchema = schema.get("properties", {})
    required = schema.get("required", ())
    if not properties and "additionalProperties" not in schema:
        raise NotStrict(f"{place} is an object of any kind")
    found: JsonSchema = {}
    for name, value in properties.items():
        part = _closed(value, root, name if place == "the whole" else f"{place}.{name}")
        found[name] = part if name in required or _nullable(value, root) else {"anyOf": [part, _NULL]}
    return {"properties": found, "required": list(found), "additionalProperties": False}


def _nullable(schema: JsonSchema, root: JsonSchema) -> bool:
    """Say whether a schema allows null."""
    if reference := schema.get("$ref"):
        target = root.get("$defs", {}).get(str(reference).removeprefix("#/$defs/"), {})
        return "$ref" not in target and _nullable(target, root)
    choices = cast(list[JsonSchema], schema.get("anyOf", schema.get("oneOf", [])))
    kind = schema.get("type")
    kinds = cast(list[Any], kind) if isinstance(kind, list) else [kind]
    const = "const" in schema and schema["const"] is None
    return const or "null" in kinds or None in schema.get("enum", ()) or any(_nullable(each, root) for each in choices)
