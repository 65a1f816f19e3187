"""Read a model's answer: choose the JSON object that is meant among the words and other objects around it.

Models write examples, drafts and thoughts beside their answer. An object counts only if it has the form that was asked
for and fits the question. If different ones fit, the answer has a fault, because a guess would be silent.
"""

import json
from collections.abc import Callable, Iterator
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from .dag import ExtractionFault
from .formats import with_think_tags

FormT = TypeVar("FormT", bound=BaseModel)
ResultT = TypeVar("ResultT")

_DECODER = json.JSONDecoder()
_OPEN, _CLOSE = "<think>", "</think>"


def read_answer(
    text: str, form: type[FormT], fit: Callable[[FormT], ResultT | ExtractionFault]
) -> ResultT | ExtractionFault:
    r"""Return what ``fit`` makes of the object that has the form and fits, wherever it is in the answer.

    Objects may be wrapped in others, or stand between words and code fences. Those within thoughts do not count. The
    fault names the object that came closest: one with the right form before one with a wrong form, and late before
    early.

    >>> class Sum(BaseModel):
    ...     total: int
    >>> def fit(answer: Sum) -> int | ExtractionFault:
    ...     return answer.total if answer.total < 9 else ExtractionFault("out_of_range", "too large")
    >>> read_answer('Sure!\n```json\n{"total": 3}\n```\nNot {"total": 12}.', Sum, fit)
    3
    >>> read_answer("It is 3.", Sum, fit).reason, read_answer('{"total": 3} or {"total": 4}', Sum, fit).reason
    ('not_json', 'several_answers')
    """
    fault = ExtractionFault("not_json", "there is no JSON object in the answer")
    formed: ExtractionFault | None = None
    found: list[ResultT] = []
    for candidate in _objects_in(_visible(text), form):
        if not isinstance(candidate, ExtractionFault):
            result = fit(candidate)
            if isinstance(result, ExtractionFault):
                formed = result
            elif result not in found:
                found.append(result)
        elif candidate.reason == "wrong_shape" or fault.reason == "not_json":
            fault = candidate
    if len(found) > 1:
        detail = f"there are {len(found)} different JSON objects in the answer that could be meant: write only one"
        return ExtractionFault("several_answers", detail)
    return found[0] if found else formed or fault


def _visible(text: str) -> str:
    """Return the text without thoughts: those that are closed, and one that is open when the text begins or ends."""
    *_, rest = with_think_tags(text).rpartition(_CLOSE)
    return rest.partition(_OPEN)[0]


def _objects_in(text: str, form: type[FormT]) -> Iterator[FormT | ExtractionFault]:
    """Yield the objects of a text that have the form, and a fault for each object that neither has it nor wraps one."""
    position = 0
    readable = True
    while (start := text.find("{", position)) >= 0:
        try:
            value: JsonValue
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            position = start + 1
            if readable:  # later ones are mostly its parts
                yield ExtractionFault("not_json", f"the JSON in the answer cannot be read: {error}")
            readable = False
            continue
        outer = _formed(value, form)
        wrapped = list(_wrapped(value, form)) if isinstance(outer, ExtractionFault) else []
        yield from wrapped or [outer]


def _formed(value: JsonValue, form: type[FormT]) -> FormT | ExtractionFault:
    try:
        # As text, because pydantic is stricter about JSON: it refuses what UTF-8 cannot hold.
        return form.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return ExtractionFault("wrong_shape", f"at {place or 'the top'}: {first['msg']}")


def _wrapped(value: JsonValue, form: type[FormT]) -> Iterator[FormT]:
    """Yield the objects in the form that are inside of a value, in order."""
    waiting = _members(value)
    while waiting:
        member = waiting.pop()
        if isinstance(member, dict) and not isinstance(formed := _formed(member, form), ExtractionFault):
            yield formed
        else:
            waiting += _members(member)


def _members(value: JsonValue) -> list[JsonValue]:
    """Return the values in an object or an array, the last one first."""
    members = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return members[::-1]
