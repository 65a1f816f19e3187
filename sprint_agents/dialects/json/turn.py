"""Read what an executor wrote in JSON: its result, or calls of tools; never raises on what a model wrote."""

from collections.abc import Sequence

from pydantic import JsonValue

from sprint_agents.dialects.completions import Result, ToolCall, ToolCalls, Turn

from .exact import read_exact
from .stream import JsonStream
from .values import Node, write
from .words import JsonKeys, normal, pick


def read_turn(written: str, keys: JsonKeys, *, marks: Sequence[str], typed: bool, tools: bool) -> Turn:
    """Read a whole turn; ``typed`` says that a result is anything but a text, ``tools`` that there are any.

    What is cut off is a result only if it is a text; what has no key is one if there is nothing else.

    >>> from sprint_agents.dialects.json.words import load_words
    >>> read_turn('{"result": [1, 2]}', load_words().keys, marks=(), typed=True, tools=False)
    Result(text='[1, 2]', start=11, end=17, is_json=True)
    """
    exact = read_exact(written, keys, marks=marks, typed=typed, tools=tools)
    return exact or read_loose(written, keys, marks=marks, typed=typed, tools=tools)


def read_loose(written: str, keys: JsonKeys, *, marks: Sequence[str], typed: bool, tools: bool) -> Turn:
    """Read a turn of whatever form; see ``read_turn``."""
    stream = JsonStream(marks)
    content: list[Node] = []
    result: Node | None = None
    stray: Node | None = None
    for node in [*stream.feed(written), *stream.close()]:
        match node.path:
            case (str(key),) if normal(key) in keys.thoughts and result is None:
                content.append(node)
            case (str(key),) if normal(key) in keys.result and (result is None or result.value is None):
                result = node
            case ():
                if tools and (calls := _calls(node.value, keys)):
                    return ToolCalls(calls)
                if result is not None:
                    break
                stray = stray or node
            case _:
                pass
    if result is not None:
        start = 0 if stream.thoughts is not None else min(node.content[0] for node in [*content, result])
        return _result(result, start, written, typed=typed)
    return _otherwise(stream, stray, keys, typed=typed)


def _result(node: Node, start: int, written: str, *, typed: bool) -> Result:
    end = node.content[1]
    if typed:
        return Result(node.json(written), start, end, is_json=True)
    if isinstance(node.value, str):
        return Result(node.value, start, end)
    return Result("" if node.value is None else node.json(written), start, end)


def _otherwise(stream: JsonStream, stray: Node | None, keys: JsonKeys, *, typed: bool) -> Result:
    """Make the best of a turn in which no result came to its end."""
    path, cut, text = stream.path, stream.cut, stream.text[: stream.end]
    inside = bool(path) and isinstance(path[0], str) and normal(path[0]) in keys.result
    if cut is not None and cut.is_string and inside and not typed:
        return Result(cut.text, cut.start, stream.end)
    if stray is not None:
        return Result(stray.json(stream.text), stray.start, stray.end, is_json=typed)
    return Result(stream.words() if stream.begun is None else text, 0, stream.end)


def _calls(value: JsonValue, keys: JsonKeys) -> tuple[ToolCall, ...]:
    """Find the calls in an object that has them, or that is one itself."""
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
