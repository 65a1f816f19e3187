"""The quick reader of turns reads what it reads as the tolerant one does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.dialects.completions import Result, ToolCall, ToolCalls
from sprint_agents.dialects.json.exact import read_exact
from sprint_agents.dialects.json.turn import read_loose
from sprint_agents.dialects.json.words import load_words

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
    exact = read_exact(written, KEYS, marks=MARKS, typed=typed, tools=tools)
    if exact is not None:
        assert exact == read_loose(written, KEYS, marks=MARKS, typed=typed, tools=tools)
    else:
        assert "\\" in written or "<|end|>" in json.dumps(value)


@given(calls=st.lists(st.tuples(st.text(), st.dictionaries(st.text(), values, max_size=2)), min_size=1, max_size=3))
def test_calls_are_read_alike(calls: list[tuple[str, Any]]) -> None:
    turn = {"call": [{"tool": tool, "arguments": arguments} for tool, arguments in calls]}
    written = json.dumps(turn, ensure_ascii=False)
    exact = read_exact(written, KEYS, marks=MARKS, typed=True, tools=True)
    if exact is not None:
        assert exact == read_loose(written, KEYS, marks=MARKS, typed=True, tools=True)
    else:
        assert "\\" in written


@given(
    text=st.text('{}[]":,\\resultcall0 1e.n<|end|>', max_size=40).map(lambda text: f'{{"result": {text}'),
    typed=st.booleans(),
)
def test_nonsense_is_read_alike(text: str, typed: bool) -> None:
    exact = read_exact(text, KEYS, marks=MARKS, typed=typed, tools=True)
    assert exact is None or exact == read_loose(text, KEYS, marks=MARKS, typed=typed, tools=True)


def test_most_turns_are_read_quickly():
    assert read_exact('{"result": "a \\"b\\"\\n"}<|end|>', KEYS, marks=MARKS, typed=False, tools=False) == Result(
        'a "b"\n', 12, 21
    )
    call = '{"call": [{"tool": "f", "arguments": {"a": 1}}]}'
    assert read_exact(call, KEYS, marks=(), typed=True, tools=True) == ToolCalls((ToolCall("f", '{"a": 1}'),))


@pytest.mark.parametrize(
    "written",
    [
        '{"result": 1e999}',
        '{"result": NaN}',
        '{"result": 1',
        '{"result": 1} {"result": 2}',
        '{"result": 1, "result": 2}',
        '{"thoughts": "so", "result": 2}',
        '{"call": [{"tool": "f"}]}',
        '{"call": {"tool": "f", "arguments": {}}}',
        '{"call": []}',
        r'{"result": "\\boxed{4}"}',
        r'{"result": "\ud800"}',
        '{"result": ' + "[" * 5000 + "]" * 5000 + "}",
        '{"result": ' + "9" * 5000 + "}",
        "",
    ],
)
def test_what_is_unusual_is_left_to_the_other(written: str) -> None:
    assert read_exact(written, KEYS, marks=MARKS, typed=True, tools=True) is None
