import json
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sprint_agents.dialects.json.container import Value
from sprint_agents.dialects.json.scanner import DEPTH, JsonScanner
from sprint_agents.dialects.json.values import read_scanned, write
from tests.dialects.texts import chunked

from .json_texts import loose_texts, objects, written_objects


def read(chunks: Sequence[str] | str, *, marks: Sequence[str] = ("<|end|>",)) -> tuple[JsonScanner, list[Value]]:
    stream = JsonScanner(marks, arrays=True)
    nodes = [node for chunk in chunks for node in stream.feed(chunk)]
    return stream, nodes + stream.close()


def value(text: str) -> object:
    stream, nodes = read([text])
    return read_scanned(stream, nodes[-1])[0]


def cut(text: str, places: Sequence[int]) -> list[str]:
    cuts = sorted(place % (len(text) + 1) for place in places)
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def same(left: object, right: object) -> bool:
    """Equal as JSON, where a lone half of a surrogate pair has become a replacement character."""
    return json.dumps(left, ensure_ascii=False) == json.dumps(right, ensure_ascii=False)


@given(written_objects(), st.lists(st.integers(0), max_size=8))
def test_strict_json_is_read_as_it_is(written: tuple[dict[str, object], str], places: list[int]) -> None:
    expected, text = written
    assume("\\b" not in text and "\\f" not in text)  # before a letter, they begin a LaTeX command
    stream, nodes = read(cut(text, places))
    root = nodes[-1]
    assert same(read_scanned(stream, root)[0], expected)
    assert (root.path, root.start, root.end) == ((), 0, len(text))
    assert read_scanned(stream, root)[1] == text


@given(objects)
def test_what_is_written_is_read_back(expected: dict[str, object]) -> None:
    text = write(expected)
    assert same(value(text), expected)
    assert json.loads(text) == expected


@given(chunked(loose_texts))
def test_what_is_found_does_not_depend_on_the_chunks(chunks: list[str]) -> None:
    whole, found = read(["".join(chunks)])
    stream, nodes = read(chunks)
    assert nodes == found
    assert (stream.ended, stream.end, stream.words(), stream.thoughts, stream.cut, stream.path) == (
        whole.ended,
        whole.end,
        whole.words(),
        whole.thoughts,
        whole.cut,
        whole.path,
    )


@given(st.text() | loose_texts)
def test_every_value_is_where_it_says_and_can_be_written(text: str) -> None:
    stream, nodes = read([text])
    assert stream.slice(0, len(text)) == text
    for node in nodes:
        assert 0 <= node.root <= node.start <= node.end <= len(text)
        assert same(json.loads(read_scanned(stream, node)[1]), read_scanned(stream, node)[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, 2,], "b": {},}', {"a": [1, 2], "b": {}}),
        ("{'a': 'it''s', 'b': 'don't, won't'}", {"a": "it''s", "b": "don't, won't"}),
        ("{'a': \"it's\"}", {"a": "it's"}),
        ("{a: True, b_1: None, c-d: undefined}", {"a": True, "b_1": None, "c-d": None}),
        ('{"a": 1 // one\n, /* two */ "b": 2 # three\n}', {"a": 1, "b": 2}),
        ('{"a": 1 /* one */}', {"a": 1}),
        ('{"a": [{"b": 1} {"c": 2}] "d": 3}', {"a": [{"b": 1}, {"c": 2}], "d": 3}),
        ('{"a": 25+7*3, "b": no solution found}', {"a": "25+7*3", "b": "no solution found"}),
        ('{"a": .5, "b": +1, "c": 1_000, "d": 01}', {"a": 0.5, "b": 1, "c": 1000, "d": 1}),
        ('{"a": 1e999, "b": NaN}', {"a": "1e999", "b": "NaN"}),
        ('{"a": "one\ntwo"}', {"a": "one\ntwo"}),
        (r'{"a": "\(x\) is \boxed{4} or \frac{1}{2}"}', {"a": r"\(x\) is \boxed{4} or \frac{1}{2}"}),
        (r'{"a": "\ud83d\ude00 \ud83d \u00e9 \/"}', {"a": "😀 \ufffd é /"}),
        ('{"a": [1, 2}', {"a": [1, 2]}),
        ('[{"a": 1]', [{"a": 1}]),
        ('{"a": {"b": 1}}}', {"a": {"b": 1}}),
        ('{"a" 1, "b": 2, : 3}', None),
        # Two keys in a row look like a string with quotes that are not escaped.
        ('{"x": 0, "a" 1, "b": 2}', {"x": 0, 'a" 1, "b': 2}),
        ('{"a": "say "hi" to [x], he said"}', {"a": 'say "hi" to [x], he said'}),
        ('{"a": ["x" "y"]}', {"a": ["x", "y"]}),
        ('{"a": 1, {"b": 2}}', {"a": 1, "": {"b": 2}}),
        ('{"a":\u00a01}', {"a": 1}),
        ('{"a": [1,, 2]}', {"a": [1, 2]}),
    ],
)
def test_json_as_models_write_it(text: str, expected: object) -> None:
    stream, nodes = read([text])
    if expected is None:
        assert not any(node.path == () for node in nodes)
        return
    assert nodes[-1].path == ()
    assert same(read_scanned(stream, nodes[-1])[0], expected)
    if nodes[-1].end == len(text):
        assert read_scanned(stream, nodes[-1])[1] != text
        assert same(json.loads(read_scanned(stream, nodes[-1])[1]), expected)


@pytest.mark.parametrize("text", ["{1, 2}", "{}", "{{x}}", "a set {b", '["a"]', "[1]", "{:}", '{"a", "b"}', "{", "[["])
def test_a_brace_in_a_text_is_no_json(text: str) -> None:
    stream, nodes = read([text])
    assert nodes == []
    assert stream.words() == text.strip()


def test_a_value_comes_with_its_last_character() -> None:
    stream = JsonScanner()
    assert stream.feed('{"a": "b\\ud83d') == []
    assert stream.feed("\\ude0") == []
    assert stream.feed("0") == []
    (node,) = stream.feed('"')
    assert (node.path, read_scanned(stream, node)[0]) == (("a",), "b😀")
    (root,) = stream.feed("}")
    assert root.path == ()


def test_json_stands_behind_thoughts_between_words_and_in_a_fence() -> None:
    text = 'I think: {so}\n</think>\nHere {it} is:\n```json\n{"a": 1}\n```\nDone.<|end|>\n{"b": 2}'
    stream, nodes = read([text])
    assert [read_scanned(stream, node)[0] for node in nodes if node.path == ()] == [{"a": 1}]
    assert stream.thoughts == "I think: {so}\n"
    assert stream.words().split() == ["Here", "{it}", "is:", "Done."]
    assert stream.ended
    assert text[stream.end :].startswith("<|end|>")


def test_thoughts_are_no_json() -> None:
    stream, nodes = read(['<think>{"a": 1}</think>{"a": 2}'])
    assert [read_scanned(stream, node)[0] for node in nodes if node.path == ()] == [{"a": 2}]
    assert stream.thoughts == '{"a": 1}'
    stream, nodes = read(['<think>{"a": 1}'])
    assert (nodes, stream.thoughts) == ([], '{"a": 1}')


def test_the_end_mark_ends_what_is_open() -> None:
    stream, nodes = read(['{"a": [{"b": "c<|end|>'])
    assert [(node.path, read_scanned(stream, node)[0], node.rest) for node in nodes] == [
        (("a", 0, "b"), "c", '"'),
        (("a", 0), {"b": "c"}, '"}'),
        (("a",), [{"b": "c"}], '"}]'),
        ((), {"a": [{"b": "c"}]}, '"}]}'),
    ]


def test_the_token_limit_ends_nothing() -> None:
    stream, nodes = read(['{"a": 1, "b": ["c'])
    assert [node.path for node in nodes] == [("a",)]
    assert (stream.begun, stream.path, stream.slice(stream.cut or 0, stream.end)) == (0, ("b", 0), "c")


def test_depth_is_bounded() -> None:
    stream, nodes = read(['{"a":' * 10_000 + "1" + "}" * 10_000])
    assert stream.length == 60_001
    assert all(len(node.path) <= DEPTH for node in nodes)


def test_marks_do_not_stand_in_what_is_written() -> None:
    text = write({"a": "<|im_end|> [INST]\b"}, marks=("[INST]",))
    assert "<|" not in text
    assert "[INST]" not in text
    assert json.loads(text) == {"a": "<|im_end|> [INST]\b"}
