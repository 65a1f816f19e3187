"""The page as text: it is complete, runs its own script alone, and shows what a run holds as text."""

import hashlib
import json
import re
from base64 import b64encode
from html import unescape

from sprint_agents.viewer import render_page

from .conftest import HOSTILE


def part(page: str, name: str) -> str:
    found = re.findall(rf"<{name}[^>]*>(.*?)</{name.split()[0]}>", page, re.DOTALL)
    assert len(found) == 1
    return found[0]


def digest(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_this_script_and_this_style_alone(run) -> None:
    page = render_page([run.model_dump_json()])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": digest(part(page, 'script type="module"')),
        "style-src": digest(part(page, "style")),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert "unsafe" not in policy[1]


def test_the_page_needs_nothing_else() -> None:
    page = render_page([])
    assert len(page.encode()) < 80_000
    assert not re.search(r"\b(src|href)=|url\((?!#)|@import|\bimport\b.*from|fetch\(|innerHTML|eval\(", page)


def test_data_cannot_end_its_element(run) -> None:
    page = render_page([run.model_dump_json()], title=HOSTILE)
    assert "document.title='owned'" in page
    assert HOSTILE not in page
    assert page.count("</script>") == 2
    assert json.loads(part(page, 'script type="application/json"')) == [json.loads(run.model_dump_json())]
    assert unescape(part(page, "title")) == HOSTILE


def test_a_notebook_shows_a_run_in_a_frame_of_its_own_origin(early) -> None:
    frame = early._repr_html_()
    assert frame.startswith('<iframe sandbox="allow-scripts" srcdoc="')
    assert "allow-same-origin" not in frame
    assert re.findall(r"<\w+", frame) == ["<iframe"]
    assert "What is 6*7 + 100/4?" in unescape(frame)
