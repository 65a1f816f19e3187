"""Read an executor's turn that is one strict JSON object and nothing else, as most are, at the speed of C.

Invariant: where this reads a turn, ``json_turn`` reads it alike; what is in the least unusual is left to that.
"""

import json
import re
from collections.abc import Sequence
from functools import cache

from pydantic import JsonValue

from sprint_agents.dialects.completions import Result, ToolCall, ToolCalls, Turn

from .values import write
from .words import JsonKeys

# Escapes that models mean otherwise than JSON does, or that may be halves of a pair.
_ODD_ESCAPE = re.compile(r"\\[bfu]")
_END = re.compile(r"\s*\}\s*")


def read_exact(written: str, keys: JsonKeys, *, marks: Sequence[str], typed: bool, tools: bool) -> Turn | None:
    """Read a turn that holds a result or calls under its own name and no other key; None for all others.

    >>> from sprint_agents.dialects.json.words import load_words
    >>> read_exact('{"result": [1, 2]}', load_words().keys, marks=(), typed=True, tools=False)
    Result(text='[1, 2]', start=11, end=17, is_json=True)
    """
    begun = _beginning(keys.result[0], keys.call[0]).match(written)
    if begun is None or _ODD_ESCAPE.search(written):
        return None
    start = begun.end()
    try:
        value, end = _decoder.raw_decode(written, start)
    except (ValueError, RecursionError):
        return None
    closed = _END.match(written, end)
    if closed is None or ((rest := written[closed.end() :].strip()) and rest not in marks):
        return None
    if begun[1] == keys.call[0]:
        return _calls(value, keys) if tools else None
    if isinstance(value, str):
        own = Result(value, start + 1, end - 1)
        return own if not typed else own._replace(text=written[start:end], is_json=True)
    return Result("" if value is None and not typed else written[start:end], start, end, is_json=typed)


def _calls(value: JsonValue, keys: JsonKeys) -> ToolCalls | None:
    if not isinstance(value, list):
        return None
    calls: list[ToolCall] = []
    for call in value:
        if not isinstance(call, dict) or len(call) != 2:
            return None
        tool, arguments = call.get(keys.tool[0]), call.get(keys.arguments[0])
        if not isinstance(tool, str) or not isinstance(arguments, dict):
            return None
        calls.append(ToolCall(tool, write(arguments)))
    return ToolCalls(tuple(calls)) if calls else None


@cache
def _beginning(*names: str) -> re.Pattern[str]:
    return re.compile(rf'\s*\{{\s*"({"|".join(map(re.escape, names))})"\s*:\s*')


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError(text)
    return value


def _refuse(name: str) -> None:
    raise ValueError(name)


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
