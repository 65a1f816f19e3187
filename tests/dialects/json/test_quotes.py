r"""Strings whose quotes a model forgot to escape."""

import json

import pytest

from sprint_agents.dialects.completions import Result, ToolCalls
from sprint_agents.dialects.json.quotes import escape
from sprint_agents.dialects.json.results import read_turn
from sprint_agents.dialects.json.values import read_value
from sprint_agents.dialects.json.words import load_words

LINES = """\
print("hello", x[0])
x = {"a": 1, "b": [2, "c"]}
if x["a"]: {
}
return "";
He said "no", and left.
it's 5" long
["a", "b"]
// "comment"
d.get("a", "b")
<a href="x">y</a>"""


@pytest.mark.parametrize(
    "form",
    [
        '{"call": [{"tool": "write", "arguments": {%s}}]}',
        '{"name": "write", "arguments": {%s}}',
        '<tool_call>\n{"name": "write", "arguments": {%s}}\n</tool_call>',
        '```json\n{"tool": "write", "arguments": {%s}}\n```',
        '{"call": [{"tool": "write", "arguments": {%s}}, {"tool": "run", "arguments": {"command": "ls"}}]}',
    ],
)
@pytest.mark.parametrize("code", [*LINES.splitlines(), LINES, LINES * 20])
@pytest.mark.parametrize("arguments", ['"path": "a.py", "content": "%s"', '"content": "%s", "path": "a.py"'])
@pytest.mark.parametrize("line_break", ["\n", "\\n"])
def test_code_in_the_arguments_of_a_tool_is_whole(form: str, code: str, arguments: str, line_break: str) -> None:
    written = form.replace("%s", arguments.replace("%s", code.replace("\n", line_break))) + "<|end|>"
    turn = read_turn(written, load_words().keys, marks=("<|end|>",), typed=False, tools=True)
    assert isinstance(turn, ToolCalls)
    assert json.loads(turn.calls[0].arguments) == {"path": "a.py", "content": code}


@pytest.mark.parametrize(
    "form",
    [
        '{"result": {"path": "a.py", "content": "%s"}}',
        '```json\n{"thoughts": "say "hi"", "result": {"content": "%s", "path": "a.py"}}\n```',
        '{"path": "a.py", "content": "%s"}',
    ],
)
@pytest.mark.parametrize("code", [*LINES.splitlines(), LINES])
def test_code_in_a_result_is_whole(form: str, code: str) -> None:
    turn = read_turn(
        form.replace("%s", code) + "<|end|>", load_words().keys, marks=("<|end|>",), typed=True, tools=False
    )
    assert isinstance(turn, Result)
    assert json.loads(turn.text) == {"path": "a.py", "content": code}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"prompt": "Say "yes" or "no"."}', {"prompt": 'Say "yes" or "no".'}),
        (r'{"prompt": "Find "x" in \(x\) = \boxed{4}"}', {"prompt": r'Find "x" in \(x\) = \boxed{4}'}),
        ('{"a": ["say "hi" now", "b"], "c": "x"y"}', {"a": ['say "hi" now', "b"], "c": 'x"y'}),
        ('{"a": ""quoted" first", "b": ""}', {"a": '"quoted" first', "b": ""}),
        ('{"a": "{"b": "c", "d": 1}", "e": 2}', {"a": '{"b": "c", "d": 1}', "e": 2}),
        ('{"a": "b" c", "d": """x "y" z"""}', {"a": 'b" c', "d": 'x "y" z'}),
        ('{"a": "say "hi"", // why\n "b": 1,}', {"a": 'say "hi"', "b": 1}),
        ('{"a": "say "hi"" "b": 1}', {"a": 'say "hi"', "b": 1}),
        ('{"a": \'say "hi"\', "b": "x "y" z"}', {"a": 'say "hi"', "b": 'x "y" z'}),
    ],
)
def test_quotes_that_are_not_escaped_belong_to_their_string(text: str, value: object) -> None:
    assert read_value(text)[0] == value


def test_an_escaped_mark_does_not_end_the_turn() -> None:
    written = '{"result": "say "a" \\u003c|end|> "b"."}<|end|>'
    turn = read_turn(written, load_words().keys, marks=("<|end|>",), typed=False, tools=False)
    assert isinstance(turn, Result)
    assert turn.text == 'say "a" <|end|> "b".'
    assert written[turn.start : turn.end] == 'say "a" \\u003c|end|> "b".'


@pytest.mark.parametrize(
    "unit", ['"', '  "', '"  ', '"}', '"},', '"},{"', '", "k":', '",//', "'", "//", "{", '["a" b"', '"\\']
)
def test_a_long_text_is_read_in_one_pass(unit: str) -> None:
    """With the square of its length, this would not end."""
    escape('{"a": "' + unit * (400_000 // len(unit)), json.dumps)
