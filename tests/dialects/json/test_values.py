import json
import subprocess
import sys

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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"prompt": "Say "yes" or "no"."}', {"prompt": 'Say "yes" or "no".'}),
        (r'{"prompt": "Find "x" in \(x\) = \boxed{4}"}', {"prompt": r'Find "x" in \(x\) = \boxed{4}'}),
    ],
)
def test_quotes_that_are_not_escaped_belong_to_their_string(text: str, value: object) -> None:
    assert read_value(text)[0] == value


@pytest.mark.parametrize("text", ["." * 200_000, "…" * 200_000, "<" * 200_000 + ".." * 200_000])
def test_a_long_placeholder_is_seen_in_one_pass(text: str) -> None:
    """With the square of its length, this would not end."""
    assert is_placeholder(text)
    assert not is_placeholder(f"{text}x")


@pytest.mark.parametrize("unit", ["{a:", "[", "(", '", "', '"},', "`{", "\n{"])
def test_a_large_object_is_never_repaired(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """json-repair takes 25 s for some texts of this size."""
    monkeypatch.setitem(sys.modules, "json_repair", None)
    read_value('{"a": "b" c" ' + unit * 2000 + "}")


def test_a_large_object_with_faults_is_read_without_repair() -> None:
    items = [{"name": f"item {number}", "price": None} for number in range(2000)]
    assert read_value(repr({"items": items}))[0] == {"items": items}


def test_the_repair_is_loaded_when_it_is_needed() -> None:
    code = (
        "import sys; from sprint_agents.dialects.json.values import read_value as read; read(\"{'a': None,}\"); "
        "print('json_repair' in sys.modules, end=' '); read('{\"a\": \"b\" c\"}'); print('json_repair' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
