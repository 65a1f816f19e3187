"""JSON schemas as far as a grammar can enforce them: what it cannot say is left out, and validated afterwards.

The runtime validates each value against its whole type, so an engine may hold its model to less: the schema without
``uniqueItems``, or without a pattern that looks ahead. It must not hold it to more, or to something else.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

from sprint_agents.errors import InvalidRequest
from sprint_agents.logs import log

JsonSchema = dict[str, Any]
"""A JSON schema as Python data."""

Supports = Callable[[JsonSchema], bool]
"""Says whether a grammar can enforce a schema that has no ``$ref``: one value's type and its bounds."""

_SHAPE = frozenset({"type", "enum", "const", "required", "$ref"})
"""Keywords that are kept in any case, and without which a grammar is worth little."""
_NOTES = frozenset(
    {
        "$anchor",
        "$comment",
        "$id",
        "$schema",
        "default",
        "deprecated",
        "description",
        "discriminator",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    }
)
"""Keywords that no value can violate."""
_PARTS = frozenset({"items", "additionalProperties"})
_LISTS_OF_PARTS = frozenset({"prefixItems", "anyOf", "allOf", "oneOf"})
_MAPS_OF_PARTS = frozenset({"properties", "$defs", "definitions"})

_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_SIZES = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uri-reference", "uuid"}
)
_LARGEST_INTEGER = 2**63 - 1
_ODD_PATTERN = re.compile(
    r"""\(\?(?!:)      # lookaround, flags and named groups
      | \\[bBAzZGpPkX] # word boundaries, other anchors, classes of Unicode and references to groups by name
      | \\[1-9]        # references to groups
    """,
    re.VERBOSE,
)


def parse_schema(schema: str) -> JsonSchema:
    """Read a schema from its text.

    Raises:
        InvalidRequest: it is not a JSON object.
    """
    try:
        value = json.loads(schema)
    except ValueError as error:
        raise InvalidRequest(f"the schema of a request is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"the schema of a request is not a JSON object but {schema[:80]!r}")
    return cast(JsonSchema, value)


def weaken(schema: JsonSchema, supports: Supports) -> JsonSchema:
    """Leave out the keywords that a grammar cannot enforce; each value that ``schema`` allows stays allowed.

    Callers remember the result, since the keywords that are left out are logged each time.
    A keyword is left out if the grammar does not support it, its value, or its combination with those before it. Of a
    choice of exactly one schema (``oneOf``), any may hold.

    >>> unique = {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 1}
    >>> weaken(unique, lambda part: "uniqueItems" not in part)
    {'type': 'array', 'items': {'type': 'boolean'}, 'minItems': 1}
    """
    left_out: set[str] = set()
    found = _weakened(schema, supports, left_out)
    if left_out:
        log("info", "schema.weakened", keywords=sorted(left_out))
    return found


def _weakened(schema: Any, supports: Supports, left_out: set[str]) -> Any:
    if not isinstance(schema, dict):  # true or false
        return schema
    whole = cast(JsonSchema, schema)
    found: JsonSchema = {}
    # The type and those that are kept so far; patterns and formats first, since they say more than lengths.
    bounds: JsonSchema = {"type": whole["type"]} if "type" in whole else {}
    kept = {keyword for keyword in _by_weight(whole) if _adds(bounds, keyword, whole, supports)}
    for keyword, value in whole.items():
        if keyword in _SHAPE or keyword in _NOTES or keyword in kept:
            found[keyword] = value
        elif keyword in _PARTS:
            found[keyword] = _weakened(value, supports, left_out)
        elif keyword in _LISTS_OF_PARTS:
            parts = [_weakened(part, supports, left_out) for part in value]
            if keyword != "oneOf" or (parts == value and supports({keyword: parts})):
                found[keyword] = parts
            elif "anyOf" in schema:
                left_out.add(keyword)
            else:  # of weaker schemas, more than one may hold
                found["anyOf"] = parts
        elif keyword in _MAPS_OF_PARTS:
            found[keyword] = {name: _weakened(part, supports, left_out) for name, part in value.items()}
        else:
            left_out.add(keyword)
    return found


def _by_weight(schema: Mapping[str, Any]) -> list[str]:
    others = _SHAPE | _NOTES | _PARTS | _LISTS_OF_PARTS | _MAPS_OF_PARTS
    return sorted((keyword for keyword in schema if keyword not in others), key=lambda one: one in _SIZES)


def _adds(bounds: JsonSchema, keyword: str, schema: Mapping[str, Any], supports: Supports) -> bool:
    """Add a keyword to ``bounds`` if the grammar supports them together."""
    if not supports(bounds | {keyword: schema[keyword]}):
        return False
    bounds[keyword] = schema[keyword]
    return True


@lru_cache(maxsize=64)
def portable_schema(schema: str) -> str:
    """Return a schema, as text, that the grammars of all known servers can enforce.

    Some servers refuse a request whose schema has a keyword that their grammar cannot enforce. Others ignore it.

    >>> portable_schema('{"type": "integer", "minimum": 3, "multipleOf": 7}')
    '{"type":"integer","minimum":3}'

    Raises:
        InvalidRequest: it is not a JSON object.
    """
    whole = parse_schema(schema)
    found = weaken(whole, is_portable)
    return schema if found == whole else json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def is_portable(schema: Mapping[str, Any]) -> bool:
    """Say whether the grammars of all known servers can enforce the bounds of one value.

    xgrammar, SGLang's and vLLM's default, applies either the pattern, the format or the length of a text, and its
    integers have 64 bits. llama.cpp refuses a pattern that may match a part of a text.
    """
    ways = ("pattern" in schema) + ("format" in schema) + ("minLength" in schema or "maxLength" in schema)
    return ways <= 1 and all(_keyword_is_portable(keyword, value) for keyword, value in schema.items())


def _keyword_is_portable(keyword: str, value: Any) -> bool:
    if keyword == "pattern":
        return value.startswith("^") and value.endswith("$") and not _ODD_PATTERN.search(value)
    if keyword == "format":
        return value in _FORMATS
    if keyword in _BOUNDS:
        return abs(value) <= _LARGEST_INTEGER
    return keyword in ("type", "oneOf") or keyword in _SIZES
