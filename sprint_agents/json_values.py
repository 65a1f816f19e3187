"""The JSON form of values, which may be lossy, and the way back."""

from functools import lru_cache
from typing import Any

from pydantic import GetCoreSchemaHandler, SerializerFunctionWrapHandler, TypeAdapter, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, PydanticSerializationError, core_schema, from_json, to_json


def dump_value(value: object, dump: SerializerFunctionWrapHandler) -> Any:
    """Return the JSON form of a value; None if JSON readers refuse it, such as a number of more than 4,300 digits."""
    try:
        form = dump(value)
        from_json(to_json(form))
    except ValueError:  # a PydanticSerializationError, or a UnicodeDecodeError
        return None
    return form


def restore_value(value: object, text: str, declared: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Validate the JSON form ``value`` of a ``declared`` type, if possible by reading ``text`` again, where it is from.

    A JSON form may be lossy. If a model wrote ``{"from": "Oslo"}`` for a field with the alias ``from``, the form is
    ``{"from_": "Oslo"}``, which does not validate. A text counts only if its value has the given JSON form.
    """
    if not isinstance(value, dict | list | str | int | float | None):
        return validate(value)
    adapter = _adapter(declared)
    for read in (adapter.validate_json, adapter.validate_strings):
        try:
            found = read(text.strip())
            if any(value == _json_form(found, by_alias=by_alias) for by_alias in (False, True)):
                return found
        except ValueError:  # no JSON, or another type
            continue
    try:
        return adapter.validate_json(to_json(value))  # in a strict type, a date is a text in JSON alone
    except ValueError:
        return validate(value)


@lru_cache(maxsize=256)
def _cached_adapter(declared: Any) -> TypeAdapter[Any]:
    return TypeAdapter(declared)


def _adapter(declared: Any) -> TypeAdapter[Any]:
    try:
        return _cached_adapter(declared)
    except TypeError:  # an unhashable annotation
        return TypeAdapter(declared)


def _json_form(value: object, *, by_alias: bool) -> Any:
    try:
        return from_json(to_json(value, by_alias=by_alias, inf_nan_mode="null"))
    except PydanticSerializationError:
        return None


class ReadFromText:
    """Validates a value by ``restore_value``; values of type ``Any``, which runs make, are left alone."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        if schema["type"] == "any":
            return schema

        def restore(
            value: object, validate: ValidatorFunctionWrapHandler, info: core_schema.ValidationInfo[Any]
        ) -> Any:
            return restore_value(value, info.data.get("text", ""), source, validate)

        return core_schema.with_info_wrap_validator_function(restore, schema)
