import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.dialects.completions import Result, ToolCall, ToolCalls, Turn
from sprint_agents.dialects.json.results import read_any, read_simple, read_turn
from sprint_agents.dialects.json.words import load_words

from .json_texts import loose_texts


def read(written: str, *, typed: bool = False, tools: bool = False) -> Turn:
    return read_turn(written, load_words().keys, marks=("<|end|>",), typed=typed, tools=tools)


@pytest.mark.parametrize(
    ("written", "typed", "text"),
    [
        ('{"result": "as it is"}<|end|>', False, "as it is"),
        ('{"result": "42"}', True, '"42"'),
        ('{"result": "42"}', False, "42"),
        ('{"result": 4.20}', True, "4.20"),
        ('{"result": [1, {"a": null}]}', True, '[1, {"a": null}]'),
        ('{"result": {"a": 1}}', False, '{"a": 1}'),
        ('{"result": null}', True, "null"),
        ('{"result": null}', False, ""),
        ("Result:\n```json\n{'result': True,}\n```", True, "true"),
        ('<think>{"result": 1}</think>{"result": 2}', True, "2"),
        ('{"result": 2} {"result": 3}', True, "2"),
        ('{"thoughts": "t", "answer": 5}', True, "5"),
        ('{"result": 2', True, None),
        ('{"result": "on and', False, "on and"),
        ('{"result": 2<|end|>', True, "2"),
        ('{"x": 1, "y": 2}', True, '{"x": 1, "y": 2}'),
        ('{“result”: “a "b" c”}', False, 'a "b" c'),
        ('{{"result": {{"a": {{"b": 1}}}}}}', True, '{"a": {"b": 1}}'),
        ('{"result": {"a": """b\nc"""}}', True, '{"a": "b\\nc"}'),
    ],
)
def test_a_result(written: str, typed: bool, text: str | None) -> None:
    turn = read(written, typed=typed)
    assert isinstance(turn, Result)
    if text is None:
        assert not turn.is_json
        assert turn.text == written
    else:
        assert (turn.text, turn.is_json) == (text, typed)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('{"result": "Say "yes" or "no"."}', 'Say "yes" or "no".'),
        ('{"result": "print("a, b")"}<|end|>', 'print("a, b")'),
        ('{"result": ""Yes", she said, "or {no}""}', '"Yes", she said, "or {no}"'),
        ('{"result": "{"a": "b", "c": [1]}"}', '{"a": "b", "c": [1]}'),
        ('{"result": """a "b"\nc"""}', 'a "b"\nc'),
        ('{"result": "x, "y", z", "Thoughts" : "t"}', 'x, "y", z'),
        ('{"thoughts": "say "a" or "b"", "result": "c"}', "c"),
        ('{"result": "a", "thoughts": "say "b" or "c""}', "a"),
        ('{"result": "a" // say "b"\n, "thoughts": "say "b""}', "a"),
        ('{"result": "say "a" or "b" or', 'say "a" or "b" or'),
    ],
)
def test_quotes_that_are_not_escaped_belong_to_the_result(written: str, text: str) -> None:
    for typed in (True, False):
        turn = read(written, typed=typed)
        assert isinstance(turn, Result)
        assert (json.loads(turn.text) if typed else turn.text) == text
    assert written[turn.start : turn.end].endswith(text[-1:])


@pytest.mark.parametrize(("written", "text"), [("42", "42"), ("It is 42.<|end|>", "It is 42."), ("```\n42\n```", "42")])
def test_words_are_a_result_to_be_read_as_it_stands(written: str, text: str) -> None:
    for typed in (True, False):
        turn = read(written, typed=typed)
        assert isinstance(turn, Result)
        assert (turn.text, turn.is_json) == (text, False)


def test_thoughts_and_the_result_are_content() -> None:
    written = '{"thoughts": "so", "result": "it"}<|end|>'
    turn = read(written)
    assert isinstance(turn, Result)
    assert written[turn.start : turn.end] == 'so", "result": "it'
    turn = read('{"result": [1]}')
    assert isinstance(turn, Result)
    assert (turn.start, turn.end) == (11, 14)


@pytest.mark.parametrize(
    "written",
    [
        '{"call": [{"tool": "read", "arguments": {"path": "a"}}]}<|end|>',
        '{"thoughts": "t", "result": null, "call": [{"tool": "read", "arguments": {"path": "a"}}]}',
        '{"call": {"name": "read", "args": {"path": "a"}}}',
        '{"tool_calls": [{"type": "function", "function": {"name": "read", "arguments": "{\\"path\\": \\"a\\"}"}}]}',
        '<tool_call>\n{"name": "read", "arguments": {"path": "a"}}\n</tool_call>',
        "I read it.\n{'tool': 'read', 'parameters': {'path': 'a'}}",
    ],
)
def test_calls_of_tools(written: str) -> None:
    assert read(written, tools=True) == ToolCalls((ToolCall("read", '{"path": "a"}'),))
    assert isinstance(read(written, tools=False), Result)


def test_several_calls_are_in_order() -> None:
    written = '{"call": [{"tool": "b"}, {"tool": "a", "arguments": {"n": 1}}, 7]}'
    assert read(written, tools=True) == ToolCalls((ToolCall("b", "{}"), ToolCall("a", '{"n": 1}')))


@pytest.mark.parametrize(
    "written",
    [
        '{"call": []}',
        '{"tool": "a"}',
        '{"call": [{"arguments": {}}]}',
        '{"call": [{"tool": "a", "argum',
        '{"result": {"tool": "a"}}',
    ],
)
def test_what_calls_no_tool_is_a_result(written: str) -> None:
    assert isinstance(read(written, tools=True), Result)


@given(st.text() | loose_texts, st.booleans(), st.booleans())
def test_any_text_is_read(written: str, typed: bool, tools: bool) -> None:
    turn = read(written, typed=typed, tools=tools)
    if isinstance(turn, Result):
        assert 0 <= turn.start <= turn.end <= len(written)
        if turn.is_json:
            json.loads(turn.text)


KEYS = load_words().keys
MARKS = ("<|end|>",)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
blanks = st.sampled_from(["", " ", "\n\t"])


@given(
    value=values,
    gaps=st.tuples(blanks, blanks, blanks, blanks),
    end=st.sampled_from(["", "<|end|>", "\n<|end|>", " \n"]),
    ascii_only=st.booleans(),
    typed=st.booleans(),
    tools=st.booleans(),
)
def test_a_result_is_read_alike(
    value: Any, gaps: tuple[str, ...], end: str, ascii_only: bool, typed: bool, tools: bool
) -> None:
    written = f'{gaps[0]}{{{gaps[1]}"result"{gaps[2]}:{gaps[3]}{json.dumps(value, ensure_ascii=ascii_only)}}}{end}'
    simple = read_simple(written, KEYS, marks=MARKS, typed=typed, tools=tools)
    if simple is not None:
        assert simple == read_any(written, KEYS, marks=MARKS, typed=typed, tools=tools)
    else:
        assert "\\" in written or "<|end|>" in json.dumps(value)


@given(calls=st.lists(st.tuples(st.text(), st.dictionaries(st.text(), values, max_size=2)), min_size=1, max_size=3))
def test_calls_are_read_alike(calls: list[tuple[str, Any]]) -> None:
    turn = {"call": [{"tool": tool, "arguments": arguments} for tool, arguments in calls]}
    written = json.dumps(turn, ensure_ascii=False)
    simple = read_simple(written, KEYS, marks=MARKS, typed=True, tools=True)
    if simple is not None:
        assert simple == read_any(written, KEYS, marks=MARKS, typed=True, tools=True)
    else:
        assert "\\" in written


@given(
    text=st.text('{}[]":,\\resultcall0 1e.n<|end|>', max_size=40).map(lambda text: f'{{"result": {text}'),
    typed=st.booleans(),
)
def test_nonsense_is_read_alike(text: str, typed: bool) -> None:
    simple = read_simple(text, KEYS, marks=MARKS, typed=typed, tools=True)
    assert simple is None or simple == read_any(text, KEYS, marks=MARKS, typed=typed, tools=True)


def test_most_turns_are_read_quickly():
    assert read_simple('{"result": "a \\"b\\"\\n"}<|end|>', KEYS, marks=MARKS, typed=False, tools=False) == Result(
        'a "b"\n', 12, 21
    )
    call = '{"call": [{"tool": "f", "arguments": {"a": 1}}]}'
    assert read_simple(call, KEYS, marks=(), typed=True, tools=True) == ToolCalls((ToolCall("f", '{"a": 1}'),))


@pytest.mark.parametrize(
    "written",
    [
        '{"result": 1e999}',
        '{"result": NaN}',
        '{"result": 1',
        '{"result": 1} {"result": 2}',
        '{"result": 1, "result": 2}',
        '{"thoughts": "so", "result": 2}',
        '{"call": []}',
        r'{"result": "\boxed{4}"}',
        r'{"result": "\ud800"}',
        '{"result": ' + "[" * 5000 + "]" * 5000 + "}",
        '{"result": ' + "9" * 5000 + "}",
        "",
    ],
)
def test_what_is_unusual_is_left_to_the_other(written: str) -> None:
    assert read_simple(written, KEYS, marks=MARKS, typed=True, tools=True) is None


@pytest.mark.parametrize("written", ['{"result": "…"}', '{"thoughts": "…", "result": "<...>"}', "{'result': […]}"])
@pytest.mark.parametrize("typed", [True, False])
def test_a_placeholder_is_no_result(written: str, typed: bool) -> None:
    turn = read(written, typed=typed)
    assert isinstance(turn, Result)
    assert "placeholder" in turn.fault


@pytest.mark.parametrize(
    "written", ['{"result": {"result": "four"}}', '{"thoughts": "", "result": {"answer": "four"}}']
)
def test_a_text_that_is_wrapped_twice_is_unwrapped(written: str) -> None:
    turn = read(written)
    assert isinstance(turn, Result)
    assert turn.text == "four"
