"""The shape of a typed value in a few words, for the turn that asks for one: ``{"city": …, "people": an integer}``.

A small model writes what its last turn shows. The schema, which says everything, is in the system's turn.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

PLACEHOLDER = "…"
_SIMPLE = {"integer": "an integer", "number": "a number", "boolean": "true or false", "null": "null"}
_DEPTH = 3
_LONGEST = 120
_MOST_CHOICES = 5


@lru_cache(maxsize=64)
def shape_of(schema: str | None) -> str:
    """Return the shape of the values of a schema, a dot for each text; a bare placeholder if it is a long one.

    >>> shape_of('{"type": "object", "properties": {"number": {"type": "integer"}, "why": {"type": "string"}}}')
    '{"number": an integer, "why": …}'
    """
    if schema is None:
        return PLACEHOLDER
    whole: Mapping[str, Any] = json.loads(schema)
    shape = _shape(whole, whole.get("$defs", {}), _DEPTH)
    return shape if len(shape) <= _LONGEST else PLACEHOLDER


def _shape(schema: object, definitions: Mapping[str, object], depth: int) -> str:
    if not isinstance(schema, Mapping) or depth < 0:
        return PLACEHOLDER
    part = cast("Mapping[str, Any]", schema)
    if (target := part.get("$ref")) is not None:
        return _shape(definitions.get(str(target).rpartition("/")[2]), definitions, depth - 1)
    if choices := part.get("enum"):
        return _choice([json.dumps(choice, ensure_ascii=False) for choice in choices])
    if options := part.get("anyOf"):
        return _choice([_shape(option, definitions, depth - 1) for option in options])
    if part.get("type") == "array":
        return f"[{_shape(part.get('items'), definitions, depth - 1)}, {PLACEHOLDER}]"
    if properties := part.get("properties"):
        items = (f"{json.dumps(key)}: {_shape(value, definitions, depth - 1)}" for key, value in properties.items())
        return f"{{{', '.join(items)}}}"
    return _SIMPLE.get(str(part.get("type")), PLACEHOLDER)


def _choice(shapes: list[str]) -> str:
    return PLACEHOLDER if len(shapes) > _MOST_CHOICES else " or ".join(dict.fromkeys(shapes))
