"""Read an executor's turn in JSON: its result, or tool calls; never raises on what a model wrote."""

import re
from collections.abc import Sequence
from functools import cache, partial

from pydantic import JsonValue

from sprint_agents.dialects.completions import Result, ToolCall, ToolCalls, Turn

from .container import Value
from .quotes import escape
from .scanner import JsonScanner
from .values import is_placeholder, read_scanned, read_string, read_value, unwrap, whole_string, write, write_string
from .words import JsonKeys, normal, pick

_COPIED = "the result of the example is not that of the subtask"


def read_turn(
    written: str,
    keys: JsonKeys,
    *,
    marks: Sequence[str],
    typed: bool,
    tools: bool,
    thinking: bool = False,
    copies: Sequence[JsonValue] = (),
) -> Turn:
    """Read a whole turn.

    A result that is cut off is taken only if it is a text. JSON without a key is the result if there is nothing else.

    Args:
        written: the turn.
        keys: the names of keys.
        marks: texts that end the turn.
        typed: a result has a type other than ``str``.
        tools: the executor has tools.
        thinking: the turn begins within thoughts.
        copies: the values of the example that the model has read, of which its own may be a copy.

    >>> from sprint_agents.dialects.json.words import load_words
    >>> read_turn('{"result": [1, 2]}', load_words().keys, marks=(), typed=True, tools=False)
    Result(text='[1, 2]', start=11, end=17, is_json=True, fault='')
    """
    simple = None if thinking else read_simple(written, keys, marks=marks, typed=typed, tools=tools, copies=copies)
    return simple or read_any(written, keys, marks=marks, typed=typed, tools=tools, thinking=thinking, copies=copies)


def read_simple(
    written: str,
    keys: JsonKeys,
    *,
    marks: Sequence[str],
    typed: bool,
    tools: bool,
    copies: Sequence[JsonValue] = (),
) -> Turn | None:
    """Read a turn that is one strict object with the key of a result or of calls, as most are; None for all others.

    Invariant: ``read_any`` reads these turns in the same way, but scans every character in Python.
    """
    begin = _beginning(keys.result[0], keys.call[0]).match(written)
    if begin is None:
        return None
    body = written
    for mark in marks:
        body = body.removesuffix(mark)
        if mark in body:
            return None
    body = body.rstrip()
    start, end = begin.end(), len(body[:-1].rstrip())
    content = body[start:end]
    value, text = read_value(content)
    if body[-1:] != "}" or text != content:  # not strict JSON
        return None
    if begin[1] == keys.call[0]:
        calls = _calls({begin[1]: value}, keys) if tools else ()
        return ToolCalls(calls) if calls else None
    quoted = isinstance(value, str)
    return _result(value, text, start + quoted, end - quoted, typed=typed, keys=keys, copies=copies)


def read_any(
    written: str,
    keys: JsonKeys,
    *,
    marks: Sequence[str],
    typed: bool,
    tools: bool,
    thinking: bool = False,
    copies: Sequence[JsonValue] = (),
    escaped: bool = False,
) -> Turn:
    """Read a turn of whatever form; see ``read_turn``. Quotes in its strings are ``escaped`` first if they are not."""
    scanner = JsonScanner(marks, thinking=thinking)
    values = [*scanner.feed(written), *scanner.close()]
    values = [value for value in values if value.start >= scanner.thoughts_end]
    begun = values[0].root if values else scanner.begun
    if scanner.torn and begun is not None and not escaped:
        text = escape(scanner.slice(begun, scanner.end), partial(write_string, marks=tuple(marks)))
        whole = written[:begun] + text.text + written[scanner.end :]
        turn = read_any(
            whole, keys, marks=marks, typed=typed, tools=tools, thinking=thinking, copies=copies, escaped=True
        )
        if isinstance(turn, ToolCalls):
            return turn
        start, end = (at if at < begun else begun + text.origin(at - begun) for at in (turn.start, turn.end))
        return turn._replace(start=start, end=end)
    content: list[Value] = []
    result: Value | None = None
    unkeyed: Value | None = None
    for value in values:
        match value.path:
            case (str(key),) if normal(key) in keys.thoughts and result is None:
                content.append(value)
            case (str(key),) if normal(key) in keys.result and (
                result is None or read_scanned(scanner, result)[0] is None
            ):
                result = value
            case ():
                if tools and (calls := _calls(read_scanned(scanner, value)[0], keys)):
                    return ToolCalls(calls)
                if result is not None:
                    break
                unkeyed = unkeyed or value
            case _:
                pass
    if result is None:
        return _otherwise(scanner, unkeyed, keys, typed=typed, copies=copies)
    end = next((value.end for value in values if value.path == () and value.root == result.root), scanner.end)
    result = whole_string(scanner, result, end=end, keys=keys.thoughts)
    found = _result(*read_scanned(scanner, result), *result.content, typed=typed, keys=keys, copies=copies)
    start = min(value.content[0] for value in [*content, result])
    return found._replace(start=0 if scanner.thoughts is not None else start)


def _fault(value: JsonValue, text: str, copies: Sequence[JsonValue]) -> str:
    placeholder = f"{text.strip()} is a placeholder, not a result" if is_placeholder(text) else ""
    return placeholder or _copied(value, copies)


def _copied(value: JsonValue, copies: Sequence[JsonValue]) -> str:
    return _COPIED if value in copies else ""


def _result(
    value: JsonValue, text: str, start: int, end: int, *, typed: bool, keys: JsonKeys, copies: Sequence[JsonValue]
) -> Result:
    if typed:
        return Result(text, start, end, is_json=True, fault=_fault(value, text, copies))
    value = unwrap(value, (*keys.result, *keys.answer))
    if isinstance(value, str):
        text = value
    return Result("" if value is None else text, start, end, fault=_fault(value, text, copies))


def _otherwise(
    scanner: JsonScanner, unkeyed: Value | None, keys: JsonKeys, *, typed: bool, copies: Sequence[JsonValue]
) -> Result:
    """Make the best of a turn in which no result ended."""
    path, cut, end = scanner.path, scanner.cut, scanner.end
    inside = bool(path) and isinstance(path[0], str) and normal(path[0]) in keys.result
    if cut is not None and inside and not typed:
        text = read_string(scanner.slice(cut, end))
        return Result(text, cut, end, fault=_copied(text, copies))
    if unkeyed is not None:
        value, text = read_scanned(scanner, unkeyed)
        fault = _copied(value if typed else text, copies)
        return Result(text, unkeyed.start, unkeyed.end, is_json=typed, fault=fault)
    text = scanner.words() if scanner.begun is None else scanner.slice(0, end)
    return Result(text, 0, end, fault=_copied(text, copies))


def _calls(value: JsonValue, keys: JsonKeys) -> tuple[ToolCall, ...]:
    """Find the calls in an object that lists them, or that is one itself."""
    if not isinstance(value, dict):
        return ()
    listed = pick(value, keys.call)
    if not listed and pick(value, keys.arguments) is not None and pick(value, keys.result) is None:
        listed = value
    calls = (_call(item, keys) for item in (listed if isinstance(listed, list) else [listed]))
    return tuple(call for call in calls if call is not None)


def _call(value: JsonValue, keys: JsonKeys) -> ToolCall | None:
    tool, arguments = pick(value, keys.tool), pick(value, keys.arguments)
    if isinstance(tool, dict):  # as OpenAI's API has it
        return _call(tool, keys)
    if not isinstance(tool, str):
        return None
    return ToolCall(tool, arguments if isinstance(arguments, str) else write({} if arguments is None else arguments))


@cache
def _beginning(*names: str) -> re.Pattern[str]:
    return re.compile(rf'\s*\{{\s*"({"|".join(map(re.escape, names))})"\s*:\s*')
