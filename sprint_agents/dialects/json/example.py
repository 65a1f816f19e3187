"""Values for the example conversation, which shows the form to a model that no schema holds to it.

Invariant: a model that copies a value is noticed. A value holds a text of the example or an odd number, so that no task
has it by chance; where a type has no such value, it is a bare placeholder, which is no value.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from .shape import PLACEHOLDER
from .values import write
from .words import JsonWords

_NUMBERS = (3120457, 1750862, 4871319)
"""Of the results and the answer. Where one is too large, its first digits are taken, three at least."""
_DEPTH = 6
_LONGEST = 240
_SHORTEST = 8
_ODD_KEYWORDS = ("pattern", "format", "multipleOf", "allOf", "oneOf", "uniqueItems", "not", "if")


class Example(NamedTuple):
    """The model's turns in the example; ``copies`` are its values and its prompts, which a model may copy."""

    plan: str
    results: tuple[str, ...]
    answer: str
    copies: tuple[JsonValue, ...]

    @classmethod
    def of(cls, words: JsonWords, *, answer: str | None, result: str | None) -> "Example | None":
        """Return the example with values of these schemas, if this version of the words has one."""
        shown, keys = words.example, words.keys
        if shown is None:
            return None
        thoughts, prompt = keys.thoughts[0], keys.prompt[0]
        schemas = [result] * len(shown.prompts) + [answer]
        values = [example_of(schema, shown.done[index], index) for index, schema in enumerate(schemas)]
        names = [keys.result[0]] * len(shown.prompts) + [keys.answer[0]]
        # Not written as a whole, since a placeholder is no JSON.
        *results, answered = (
            f"{{{write(thoughts)}: {write(done)}, {write(name)}: {value}}}"
            for done, name, value in zip(shown.done, names, values, strict=True)
        )
        prompts: list[JsonValue] = [{prompt: text} for text in shown.prompts]
        plan = write({thoughts: shown.split, keys.subtasks[0]: prompts})
        copies = [json.loads(value) for value in values if value != PLACEHOLDER]
        return cls(plan, tuple(results), answered, (*copies, *shown.prompts))


class _NoExample(Exception):
    """There is no simple value of a schema."""


@lru_cache(maxsize=64)
def example_of(schema: str | None, text: str, index: int = 0) -> str:
    """Return a value of a schema as JSON, with ``text`` for each text in it; a bare placeholder if there is no odd one.

    Values of another ``index`` have other numbers: a small model repeats what it has read twice.

    >>> example_of('{"type": "object", "properties": {"n": {"type": "integer", "maximum": 999}}}', "an example", 2)
    '{"n": 487}'
    >>> example_of('{"type": "boolean"}', "an example")
    '…'
    """
    if schema is None:
        return write(text)
    whole: Mapping[str, Any] = json.loads(schema)
    maker = _Maker(whole.get("$defs", {}), text, _NUMBERS[index])
    try:
        found = write(maker.value(whole, _DEPTH))
    except _NoExample:
        return PLACEHOLDER
    return found if maker.odd and len(found) <= _LONGEST else PLACEHOLDER


class _Maker:
    """Makes a value of a schema; it is ``odd`` once a part of it is one that no task has by chance."""

    def __init__(self, definitions: Mapping[str, object], text: str, number: int) -> None:
        self._definitions = definitions
        self._text = text
        self._number = number
        self.odd = False

    def value(self, schema: object, depth: int) -> JsonValue:
        """Return the simplest value of a schema."""
        if not isinstance(schema, Mapping) or depth < 0:
            raise _NoExample
        part = cast("Mapping[str, Any]", schema)
        if (target := part.get("$ref")) is not None:
            return self.value(self._definitions.get(str(target).rpartition("/")[2]), depth - 1)
        if any(keyword in part for keyword in _ODD_KEYWORDS):
            raise _NoExample
        if "const" in part or part.get("enum"):
            return part["const"] if "const" in part else part["enum"][0]
        if options := part.get("anyOf"):
            return self.value(next((each for each in options if each != {"type": "null"}), None), depth - 1)
        match part.get("type"):
            case "object":
                return {key: self.value(inner, depth - 1) for key, inner in part.get("properties", {}).items()}
            case "array":
                fewest = max(1, part.get("minItems", 0))
                return [self.value(part.get("items"), depth - 1) for _ in range(min(fewest, depth))]
            case "string":
                return self._string(part)
            case "integer" | "number":
                return self._integer(part)
            case "boolean":
                return True
            case _:
                raise _NoExample

    def _string(self, schema: Mapping[str, Any]) -> str:
        found = self._text[: schema.get("maxLength", len(self._text))]
        if len(found) < max(_SHORTEST, schema.get("minLength", 0)):
            raise _NoExample
        self.odd = True
        return found

    def _integer(self, schema: Mapping[str, Any]) -> int:
        found = self._number
        least = max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
        most = min(schema.get("maximum", found), schema.get("exclusiveMaximum", found + 1) - 1)
        while found > max(most, 999):
            found //= 10
        if least <= found <= most:
            self.odd = True
            return found
        if not least <= most:
            raise _NoExample
        return int(least)
