"""Which JSON object of an answer is meant, among all that models write around it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from sprint_finetune.curation.dag import ExtractionFault
from sprint_finetune.curation.json_answers import read_answer


class Steps(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: list[int]


def fit(answer: Steps) -> list[int] | ExtractionFault:
    if sorted(answer.steps) != [1, 2, 3]:
        return ExtractionFault("uncovered", f"{answer.steps} are not the steps")
    return answer.steps


def read(text: str) -> list[int] | ExtractionFault:
    return read_answer(text, Steps, fit)


GOOD = '{"steps": [1, 2, 3]}'
EXAMPLE = '{"steps": [1]}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}```\nTell me if you need anything else :-}}",
        f"The answer is `{GOOD}`. For example, `{EXAMPLE}` would be wrong.",
        f"{EXAMPLE} is the form, so: {GOOD}",
        f'{GOOD}\n\n### Example\n```json\n{EXAMPLE}\n```\n```json\n{{"steps": []}}\n```',
        f"{GOOD}\nThe same again:\n{GOOD}",
        f"{GOOD} {{'steps': [1]}} {{not json}}",
        f"{{curly}} braces {{1}} and {{}} {GOOD}",
        f'{{"answer": {GOOD}}}',
        f'{{"result": {{"data": [{{"note": "x"}}, {GOOD}]}}, "confidence": 0.9}}',
        f"[{GOOD}]",
        f"[{EXAMPLE}, {GOOD}]",
        f"<think>Perhaps {EXAMPLE}? Or {GOOD}?</think>{GOOD}",
        f'<think>{{"steps": [3, 2, 1]}} is a draft.</think>\n{GOOD}',
        f'{{"steps": [3, 2, 1]}} is a draft.</think>\n{GOOD}',
        f'<thinking>{{"steps": [2, 1, 3]}}</thinking>{GOOD}',
        f'<|begin_of_thought|>{{"steps": [2, 1, 3]}}<|end_of_thought|>{GOOD}',
        f'{GOOD}\n<think>Or {{"steps": [2, 3, 1]}}',
        f'{{"steps": ["one", "two"]}} {GOOD}',
        f'{{"steps": [1, 2, 3], "why": "so"}} {GOOD}',
        f'{{"steps": [1, 2 {GOOD}',
        f"{GOOD}<|im_end|>",
        f"\ufeff{GOOD}\x00",
        '{"steps":\n\n[\n1,\n2,\n3\n]\n}',
        '{"steps": [1, 2, "3"]}',
    ],
)
def test_the_answer_is_found(text: str) -> None:
    assert read(text) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("", "not_json", "no JSON object"),
        ("I cannot do that.", "not_json", "no JSON object"),
        ("[1, 2, 3]", "not_json", "no JSON object"),
        ("{'steps': [1, 2, 3]}", "not_json", "cannot be read"),
        ('{"steps": [1, 2, 3],}', "not_json", "cannot be read"),
        ('{"steps": [1, 2', "not_json", "cannot be read"),
        (f"<think>{GOOD}</think>", "not_json", "no JSON object"),
        (f"<think>{GOOD}", "not_json", "no JSON object"),
        (json.dumps(GOOD), "not_json", "cannot be read"),
        ("{}", "wrong_shape", "steps"),
        ('{"steps": null}', "wrong_shape", "steps"),
        ('{"steps": [NaN]}', "wrong_shape", "steps.0"),
        ('{"steps": ["\\ud800"]}', "wrong_shape", ""),
        (f'{{"steps": "x"}} {{"steps": [{"9" * 400}]}}', "uncovered", ""),
        # An answer of the right form is nearer than a later one of a wrong form.
        (f"{EXAMPLE} {{}} {{'a'}}", "uncovered", "[1] are not the steps"),
        (f'{EXAMPLE} or {{"steps": [2]}}', "uncovered", "[2] are not the steps"),
        ('{"steps": [1, 2, 3]} or {"steps": [3, 2, 1]}', "several_answers", "2 different"),
        ('{"a": {"steps": [1, 2, 3]}, "b": {"steps": [3, 2, 1]}}', "several_answers", "write only one"),
    ],
)
def test_an_answer_without_one_object_that_fits_has_a_fault(text: str, reason: str, detail: str) -> None:
    found = read(text)
    assert isinstance(found, ExtractionFault)
    assert found.reason == reason
    assert detail in found.detail


@pytest.mark.parametrize("text", ['{"a":' * 20_000, "[" * 20_000, "{" * 20_000, '{"steps": [1]}' * 2_000 + GOOD])
def test_endless_answers_are_read(text: str) -> None:
    assert (read(text) == [1, 2, 3]) == text.endswith(GOOD)


@given(st.text(alphabet='{}[]":,123 \\\n<think>/steps`'), st.text(alphabet='}]",: \\\nabc`'))
def test_no_text_raises(before: str, after: str) -> None:
    found = read(before + GOOD + after)
    assert isinstance(found, ExtractionFault) or found == [1, 2, 3]
