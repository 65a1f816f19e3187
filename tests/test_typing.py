"""Types are complete for users: pyright reports for ``typing/*.py`` exactly the types and errors in its comments."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).with_name("typing")


@pytest.fixture(scope="module")
def reports() -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Run pyright once, and return its diagnostics by file and line."""
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "--project",
        str(FOLDER),
    ]
    output = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for one in json.loads(output)["generalDiagnostics"]:
        place = (Path(one["file"]).name, one["range"]["start"]["line"] + 1)
        found.setdefault(place, []).append(one)
    return found


def comments(name: str, code: str) -> dict[tuple[str, int], str]:
    """Return the comment at the end of each line that matches ``code``."""
    lines = enumerate((FOLDER / name).read_text("utf-8").splitlines(), 1)
    return {(name, number): match[1] for number, line in lines if (match := re.search(rf"{code}.*  # (.+)$", line))}


def test_every_expression_has_the_type_that_its_comment_says(
    reports: dict[tuple[str, int], list[dict[str, Any]]],
) -> None:
    expected = comments("agents.py", "reveal_type")
    assert len(expected) > 20
    revealed = {
        place: match[1]
        for place, found in reports.items()
        for one in found
        if place[0] == "agents.py" and (match := re.search(r'" is "(.*)"$', one["message"]))
    }
    assert revealed == expected
    assert [one for place, found in reports.items() for one in found if place[0] == "agents.py" and "rule" in one] == []


def test_every_mistake_is_reported(reports: dict[tuple[str, int], list[dict[str, Any]]]) -> None:
    expected = comments("mistakes.py", "^[^#]+")
    rules = {place: {one.get("rule") for one in found} for place, found in reports.items() if place[0] == "mistakes.py"}
    assert expected
    assert rules.keys() == expected.keys()
    assert {place: rule for place, rule in expected.items() if rule not in rules[place]} == {}
