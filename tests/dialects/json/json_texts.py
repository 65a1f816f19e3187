"""Texts made of pieces of JSON as models write it, and JSON as it should be."""

import json

from hypothesis import strategies as st

FRAGMENTS = [
    "{", "}", "[", "]", ":", ",", '"', "'", '"subtasks"', '"prompt"', '"after"', '"answer"', '"result"', '"thoughts"',
    '{"prompt": "', '"}', '{"subtasks": [', "]}", '{"answer": ', '"add 1 and 2"', "'it''s'", "1", "-0.5e3", "01",
    "1e999", "null", "None", "True", "false", "NaN", "word", "two words", "// note\n", "/* note */", "/*", "*", "/",
    "# note\n", "\\", "\\n", "\\u00e9", "\\ud83d", "\\ude00", "\\u12", "\\boxed{4}", "\\(", "\\'", "```json\n",
    "```", "<think>",
    "</think>", "<th", "<|end|>", "<|e", "\n", "  ", "\u00a0", "\x00", "é", "😀", '"plan"', '"call"', '"tool"',
    "after: [1]",
]  # fmt: skip

loose_texts = st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join)

texts = st.text(max_size=8)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
lists = st.lists(scalars, max_size=3)
values = scalars | lists | st.dictionaries(texts, scalars | lists, max_size=3)
objects = st.dictionaries(texts, values, min_size=1, max_size=4)


@st.composite
def written_objects(draw: st.DrawFn) -> tuple[dict[str, object], str]:
    """An object and one of the ways to write it in strict JSON."""
    value = draw(objects)
    indent = draw(st.sampled_from([None, 0, 2]))
    return value, json.dumps(value, ensure_ascii=draw(st.booleans()), indent=indent)
