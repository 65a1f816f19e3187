"""A JSON schema in the form that OpenAI's strict mode takes (API guide "Structured Outputs", supported schemas).

There the whole is one object, and every object names all of its properties as required and allows no others. So what
was optional must be written, and what was open is closed: text in the strict form satisfies the schema that it was
made from, but for the bounds in ``_DROPPED``, which strict mode does not know.
"""

import json
from typing import Any, cast

from sprint_agents.errors import InvalidRequest

Schema = dict[str, Any]

_DROPPED = frozenset({"default", "examples", "discriminator", "minLength", "maxLength", "uniqueItems"})
_INEXPRESSIBLE = frozenset({"allOf", "not", "if", "patternProperties", "propertyNames", "dependentSchemas"})
# What stands under these are names, not keywords.
_NAMED = frozenset({"properties", "$defs"})


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


def strict(schema: Schema) -> Schema | None:
    """Close all objects of a schema and require all of their properties; None where strict mode has no words for it.

    >>> strict({"type": "object", "properties": {"n": {"type": "integer", "default": 1}}})
    {'type': 'object', 'properties': {'n': {'type': 'integer'}}, 'required': ['n'], 'additionalProperties': False}
    >>> strict({"type": "object", "additionalProperties": {"type": "integer"}}), strict({"anyOf": []})
    (None, None)
    """
    try:
        return _closed(schema) if schema.get("type") == "object" else None
    except _Inexpressible:
        return None


class _Inexpressible(Exception):
    pass


def _closed(schema: Schema) -> Schema:
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # strict mode wants it alone
    if not schema or _INEXPRESSIBLE & schema.keys():
        raise _Inexpressible
    found: Schema = {}
    for key, value in schema.items():
        if key in _NAMED:
            found[key] = {name: _closed(item) for name, item in value.items()}
        elif key in ("anyOf", "oneOf"):
            found["anyOf"] = [_closed(item) for item in value]
        elif key == "items":
            found[key] = _closed(value)
        elif key not in _DROPPED:
            found[key] = value
    if schema.get("type") == "object":
        if not found.get("properties") or isinstance(schema.get("additionalProperties"), dict):
            raise _Inexpressible
        found["required"] = list(found["properties"])
        found["additionalProperties"] = False
    return found
