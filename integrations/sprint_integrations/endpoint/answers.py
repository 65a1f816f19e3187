"""A client's schema as the type of a planner's answer.

A schema comes from outside and is applied to what a model wrote, on the event loop. So it is bounded: references are
resolved once, inside the schema alone; patterns run in linear time, by pydantic's regular expressions.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, cast

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import SchemaError as PatternError
from pydantic_core import SchemaValidator, core_schema
from pydantic_core import ValidationError as PatternMismatch

from sprint_agents.agents import Planner
from sprint_agents.errors import ConfigurationError

from .questions import BadRequest

_jsonschema: Any = import_module("jsonschema")  # its annotations are partial
_best_match: Any = import_module("jsonschema.exceptions").best_match

MOST_PARTS = 5_000
"""The parts of a schema after its references are resolved."""

_UNSUPPORTED = ("patternProperties", "$dynamicRef", "unevaluatedProperties", "unevaluatedItems")


def planner_of(schema: Mapping[str, Any], like: Planner[Any]) -> Planner[Any]:
    """Return a planner whose answer satisfies ``schema``, with the other settings of ``like``.

    Raises:
        BadRequest: the schema is invalid, recursive, too large, or uses what is not supported.
    """
    whole = cast("dict[str, Any]", _resolved(schema, schema, (), [0]))
    whole.pop("$defs", None)
    whole.pop("definitions", None)
    try:
        _jsonschema.Draft202012Validator.check_schema(whole)
    except (_jsonschema.SchemaError, RecursionError) as error:
        raise _bad(f"it is not valid: {getattr(error, 'message', error)}") from error
    validator = _Bounded(whole)

    def check(value: object) -> object:
        error = _best_match(validator.iter_errors(value))
        if error is not None:
            place = ".".join(map(str, error.absolute_path))
            raise ValueError(f"{place}: {error.message}" if place else error.message)
        return value

    try:
        planner: Planner[Any] = Planner(
            Annotated[Any, AfterValidator(check), WithJsonSchema(whole)],
            instructions=like.instructions,
            attempts=like.attempts,
            max_tokens=like.max_tokens,
            sampling=like.sampling,
            engine=like.engine,
        )
    except ConfigurationError as error:
        raise _bad(str(error)) from error
    planner.type_name = str(whole.get("title", "answer of the given schema"))[:100]  # in what the model is told
    return planner


def _resolved(part: object, root: Mapping[str, Any], path: tuple[str, ...], count: list[int]) -> object:
    """Replace references within the schema by what they name."""
    count[0] += 1
    if count[0] > MOST_PARTS:
        raise _bad(f"it has more than {MOST_PARTS:,} parts")
    if isinstance(part, list):
        return [_resolved(item, root, path, count) for item in cast("list[object]", part)]
    if not isinstance(part, Mapping):
        return part
    fields = cast("Mapping[str, Any]", part)
    for name in _UNSUPPORTED:
        if name in fields:
            raise _bad(f"{name} is not supported")
    if isinstance(pattern := fields.get("pattern"), str):
        _pattern(pattern)
    if not isinstance(reference := fields.get("$ref"), str):
        keep = {key: value for key, value in fields.items() if part is not root or key not in ("$defs", "definitions")}
        return {key: _resolved(value, root, path, count) for key, value in keep.items()}
    if reference in path:
        raise _bad(f"{reference} is recursive")
    beside = {key: value for key, value in fields.items() if key != "$ref"}
    found = _resolved(_named(reference, root), root, (*path, reference), count)
    if not beside or not isinstance(found, dict):
        return found
    return {**cast("dict[str, Any]", found), **beside}


def _named(reference: str, root: Mapping[str, Any]) -> object:
    found: object = root
    start, *names = reference.split("/")
    for name in names:
        name = name.replace("~1", "/").replace("~0", "~")
        found = cast("Mapping[str, object]", found).get(name) if isinstance(found, Mapping) else None
    if start != "#" or not names or found is None:
        raise _bad(f"$ref {reference!r} names nothing in it: use #/$defs/…")
    return found


def _pattern(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern))
    except PatternError as error:
        raise _bad(f"pattern {pattern[:100]!r} cannot be matched in linear time, or is not valid") from error


def _check_pattern(validator: object, pattern: str, value: object, schema: object) -> Iterator[Exception]:
    del validator, schema
    if isinstance(value, str):
        try:
            _pattern(pattern).validate_python(value)
        except PatternMismatch:
            yield _jsonschema.ValidationError(f"{value[:100]!r} does not match {pattern!r}")


_Bounded: Any = _jsonschema.validators.extend(_jsonschema.Draft202012Validator, {"pattern": _check_pattern})


def _bad(reason: str) -> BadRequest:
    return BadRequest(f"this JSON schema cannot be used: {reason}", parameter="response_format", code="invalid_schema")
