import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.dialects.json.values import is_placeholder, read_string, read_value

from .json_texts import loose_texts


@given(st.text() | loose_texts)
def test_any_text_is_read_and_written_as_strict_json(text: str) -> None:
    value, strict = read_value(text)
    assert json.dumps(json.loads(strict)) == json.dumps(value)
    read_string(text).encode()


@pytest.mark.parametrize("text", ["0.10", '{"a" : [1, 2]}', '"\\u00e9"', "1e3", "null"])
def test_strict_json_stays_as_it_was_written(text: str) -> None:
    assert read_value(text) == (json.loads(text), text)


@pytest.mark.parametrize("text", ["." * 200_000, "…" * 200_000, "<" * 200_000 + ".." * 200_000])
def test_a_long_placeholder_is_seen_in_one_pass(text: str) -> None:
    """With the square of its length, this would not end."""
    assert is_placeholder(text)
    assert not is_placeholder(f"{text}x")


def test_a_large_object_with_faults_is_read() -> None:
    items = [{"name": f"item {number}", "price": None} for number in range(2000)]
    assert read_value(repr({"items": items}))[0] == {"items": items}
