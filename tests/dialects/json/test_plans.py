import json
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.dialects.base import Form
from sprint_agents.dialects.completions import PromptClosed
from sprint_agents.dialects.json.dialect import JsonDialect
from sprint_agents.dialects.json.plans import JsonPlanReader
from sprint_agents.dialects.json.values import is_placeholder
from sprint_agents.dialects.json.words import load_words
from tests.dialects.texts import chunked

from .json_texts import loose_texts

PLAN = '{"thoughts": "Sums first.", "subtasks": [{"prompt": "Try sums."}, {"prompt": "Check them.", "after": [1]}]}'


def read(
    text: Sequence[str] | str, *, stage: int = 1, form: Form = "plan", typed: bool = False
) -> tuple[JsonPlanReader, list[PromptClosed]]:
    reader = JsonPlanReader(load_words().keys, stage=stage, form=form, marks=("<|end|>",), typed=typed)
    items = [item for chunk in ([text] if isinstance(text, str) else text) for item in reader.feed(chunk)]
    return reader, items + reader.close()


def kinds(reader: JsonPlanReader) -> list[str]:
    return [diagnostic.kind for diagnostic in reader.diagnostics]


def prompts(items: Sequence[PromptClosed]) -> list[tuple[int, str, tuple[int, ...]]]:
    return [(item.number, item.prompt, item.after) for item in items]


def test_a_plan() -> None:
    reader, items = read(PLAN + "<|end|>")
    first, second = PLAN.index("}") + 1, PLAN.index("]}]}") + 2
    assert items == [
        PromptClosed(1, "Try sums.", first),
        PromptClosed(2, "Check them.", second, after=(1,)),
    ]
    assert reader.spans[-2].end == len(PLAN)
    assert list(reader.prompts) == [1, 2]
    assert (reader.plan, reader.answer, reader.chain, reader.diagnostics) == (PLAN, None, None, [])


def test_a_subtask_starts_when_its_object_closes() -> None:
    reader = JsonPlanReader(load_words().keys, stage=1)
    end = PLAN.index("}") + 1
    assert reader.feed(PLAN[: end - 1]) == []
    assert reader.feed(PLAN[end - 1]) == [PromptClosed(1, "Try sums.", end)]
    assert reader.plan == PLAN[:end]


@pytest.mark.parametrize(
    "subtask",
    ["{'prompt': 'a'}", "{prompt: a}", '{"prompt": "a",}', '{"prompt": "a" /* } */}', '{"prompt": "a", }', "'a'"],
)
def test_a_sloppy_subtask_starts_early_as_well(subtask: str) -> None:
    reader = JsonPlanReader(load_words().keys, stage=1)
    begin = "```json\n{'plan': ["
    assert reader.feed(begin + subtask[:-1]) == []
    # An apostrophe may also stand within a text: only the comma shows that it ends one.
    (started,) = reader.feed(subtask[-1] + ",")
    assert (started.number, started.prompt, started.end) == (1, "a", len(begin + subtask))


def test_a_subtask_with_unescaped_quotes_starts_when_its_object_closes() -> None:
    reader = JsonPlanReader(load_words().keys, stage=1)
    assert reader.feed('{"subtasks": [{"prompt": "Say "yes" or "no"."') == []
    (started,) = reader.feed("}")
    assert started.prompt == 'Say "yes" or "no".'


def test_a_subtask_that_is_a_string_starts_when_what_follows_shows_its_end() -> None:
    reader = JsonPlanReader(load_words().keys, stage=1)
    assert reader.feed('{"subtasks": ["Say "yes"') == reader.feed(" now.") == reader.feed('"') == []
    (started,) = reader.feed(",")
    assert started.prompt == 'Say "yes" now.'


def test_all_but_thoughts_prompts_and_the_answer_is_markup() -> None:
    text = PLAN + "<|end|>"
    reader, _ = read(text)
    assert [text[span.start : span.end] for span in reader.spans] == [
        '{"thoughts": "',
        '", "subtasks": [{"prompt": "',
        '"}',
        ', {"prompt": "',
        '", "after": [1]}',
        "]}",
        "<|end|>",
    ]
    reader, _ = read('{"answer": [4, 2]}', typed=True)
    assert [(span.start, span.end) for span in reader.spans] == [(0, 11), (17, 18)]


@pytest.mark.parametrize(
    ("text", "typed", "answer"),
    [
        ('{"answer": "forty two"}', False, "forty two"),
        ('{"answer": 42}', False, "42"),
        ('{"answer": {"x": [1, 2]}}', False, '{"x": [1, 2]}'),
        ('{"answer": "42"}', True, '"42"'),
        ('{"answer": 0.10}', True, "0.10"),
        ("{'answer': {'x': True,}}", True, '{"x": true}'),
        ('{"thoughts": "so", "Final Answer": "x"}', False, "x"),
        ('{"answer": null}', True, "null"),
        ('{"subtasks": [], "answer": 3}', True, "3"),
        ('{"subtasks": null, "answer": 3}', True, "3"),
        ('{"answer": 3, "subtasks": []}', True, "3"),
        ('{"answer": {"subtasks": [{"prompt": "no"}]}}', True, '{"subtasks": [{"prompt": "no"}]}'),
        ('{"answer": "Say "yes" or "no"."}', False, 'Say "yes" or "no".'),
        ('{"answer": "Say "yes".", "thoughts": "so"}', True, '"Say \\"yes\\"."'),
        ("{“answer”: “yes”}", False, "yes"),
    ],
)
def test_an_answer(text: str, typed: bool, answer: str) -> None:
    reader, items = read(text, typed=typed)
    assert (items, reader.answer, reader.plan) == ([], answer, None)
    assert reader.spans[-1].end == len(text)
    assert kinds(reader) == ([] if json_like(text) else ["malformed_json"])


def json_like(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_an_empty_answer_is_one() -> None:
    reader, items = read('{"answer": " "}')
    assert (items, reader.answer, reader.spans[-1].end) == ([], "", 15)
    assert kinds(reader) == ["empty_answer"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"subtasks": ["a", "b"]}', ["a", "b"]),
        ('{"plan": [{"task": "a"}, {"description": "b"}]}', ["a", "b"]),
        ('{"plan": {"steps": [{"query": "a"}]}}', ["a"]),
        ('[{"prompt": "a"}, {"prompt": "b"}]', ["a", "b"]),
        ('{"subtasks": [{"x": "a"}, {"prompt": {"do": 1}}]}', ["a", '{"do": 1}']),
        ("Sure!\n```json\n{'subtasks': [{prompt: 'a'}, // first\n{'prompt': 'b',},]}\n```", ["a", "b"]),
        ('<think>{"subtasks": ["no"]}</think>{"subtasks": ["a"]}', ["a"]),
        ('{"plan": "first a", "tasks": ["a"]}', ["a"]),
        ('{"subtasks": [{"prompt": "a"}', ["a"]),
        ('{"subtasks": [{"prompt": "a"}}', ["a"]),
        ('{"subtasks": [{"prompt": "a"}]} {"subtasks": ["no"]}', ["a"]),
        ('{"stage": 1, "subtasks": [{"id": 1, "prompt": "a", "why": "b"}]}', ["a"]),
        ("{“subtasks”: [{“prompt”: “a”}, “b”]}", ["a", "b"]),
        ('{{"subtasks": [{{"prompt": "a"}}, {{"prompt": "b"}}]}}', ["a", "b"]),
        ('{"subtasks": [{"prompt": """a "b"\nc"""}, {"prompt": "b"}]}', ['a "b"\nc', "b"]),
        ('{"subtasks": ["say "hi" now", "b" "c"\n"d"]}', ['say "hi" now', "b", "c", "d"]),
        ('{"subtasks": [{"prompt": "find a 5" pipe"}, {"prompt": "b"}]}', ['find a 5" pipe', "b"]),
        ('{"subtasks": [{"prompt": "a pipe of 5""}, {"prompt": "b"}]}', ['a pipe of 5"', "b"]),
        ('{"subtasks": [{"prompt": "of 5"", "after": []}, {"prompt": "b"}]}', ['of 5"', "b"]),
        ('{"subtasks": [{"prompt": "5", 6" and 7"",\n"why": ""}, {"prompt": "b"}]}', ['5", 6" and 7"', "b"]),
        ('{"plan": [{"prompt": "is "a", "b" or "c" right?", "why": "5" x"}, "b"]}', ['is "a", "b" or "c" right?', "b"]),
        ('{"plan": [{"prompt": "use "x": 5" here" "why": "y"}, "b"]}', ['use "x": 5" here', "b"]),
        ('{"plan": [{"prompt": "a" // 5" why\n, "why": "y" of: "z"}, "b"]}', ["a", "b"]),
    ],
)
def test_plans_as_models_write_them(text: str, expected: list[str]) -> None:
    reader, items = read(text)
    assert [prompt for _, prompt, _ in prompts(items)] == expected
    assert reader.plan is not None
    assert reader.answer is None


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("[1]", (1,)),
        ("[1.0]", (1,)),
        ("[2, 1, 2]", (2, 1)),
        ("2", (2,)),
        ('["1", "subtask 2", "1.2"]', (1, 2)),
        ('["b", "#1"]', (2, 1)),
        ("null", ()),
        ("[]", ()),
    ],
)
def test_a_subtask_names_those_before_it(after: str, expected: tuple[int, ...]) -> None:
    first, second = '{"id": "a", "prompt": "x"}', '{"id": "b", "prompt": "y"}'
    third = f'{{"prompt": "z", "after": {after}}}'
    reader, items = read(f'{{"subtasks": [{first}, {second}, {third}]}}')
    assert prompts(items)[-1] == (3, "z", expected)
    assert reader.diagnostics == []


def test_names_from_zero_are_names() -> None:
    _, items = read('{"subtasks": [{"id": 0, "prompt": "x"}, {"id": 1, "prompt": "y", "depends_on": [0]}]}')
    assert prompts(items)[-1] == (2, "y", (1,))


@pytest.mark.parametrize("after", ["[2]", "[3]", '["nobody"]', "[0]", "[{}]", "[true]"])
def test_a_subtask_waits_for_none_that_is_not_before_it(after: str) -> None:
    reader, items = read(f'{{"subtasks": [{{"prompt": "x"}}, {{"prompt": "y", "after": {after}}}, "z"]}}')
    assert prompts(items)[1] == (2, "y", ())
    assert kinds(reader) == ["odd_dependency"]


def test_an_empty_subtask_keeps_its_number() -> None:
    reader, items = read(
        '{"subtasks": [{"prompt": ""}, {"prompt": "a"}, {"id": "c"}, 7, {"prompt": "b", "after": [2, 1]}]}'
    )
    assert prompts(items) == [(2, "a", ()), (4, "7", ()), (5, "b", (2,))]
    assert kinds(reader) == ["empty_prompt", "empty_prompt", "odd_dependency"]


def test_a_plan_that_also_answers_is_a_plan() -> None:
    reader, items = read('{"subtasks": [{"prompt": "a"}], "answer": 3}')
    assert (len(prompts(items)), reader.answer, kinds(reader)) == (1, None, ["answer_in_plan"])


def test_a_plan_without_subtasks_is_one() -> None:
    reader, items = read('{"thoughts": "later", "subtasks": []}')
    assert (items, reader.spans[-1].end) == ([], 37)
    assert reader.plan is not None


def test_what_the_token_limit_cuts_off_is_not_dispatched() -> None:
    reader, items = read('{"subtasks": [{"prompt": "a"}, {"prompt": "b"')
    assert prompts(items) == [(1, "a", ())]
    assert kinds(reader) == ["unclosed_prompt", "unclosed_plan"]
    assert reader.plan == '{"subtasks": [{"prompt": "a"}, {"prompt": "b"'


def test_what_the_model_itself_ends_is_dispatched() -> None:
    reader, items = read('{"subtasks": [{"prompt": "a"}, {"prompt": "b<|end|>')
    assert [(item.prompt, item.end, item.rest) for item in items] == [
        ("a", 29, ""),
        ("b", 44, '"}'),
    ]
    assert kinds(reader) == ["malformed_json"]


def test_an_unfinished_thought_is_a_plan_of_nothing() -> None:
    reader, items = read('{"thoughts": "on and on')
    assert (reader.plan, reader.answer, kinds(reader)) == (
        '{"thoughts": "on and on',
        None,
        ["unclosed_plan", "no_plan"],
    )
    assert prompts(items) == []


@pytest.mark.parametrize(
    ("text", "typed", "answer"),
    [
        ('{"answer": "on and on', False, "on and on"),
        ('{"answer": 42, ', True, "42"),
        ('{"answer": [1, 2', True, '{"answer": [1, 2'),
        ('{"answer": 4', True, '{"answer": 4'),
        ('{"answer": "4', True, '{"answer": "4'),
    ],
)
def test_half_an_answer_is_one_only_if_it_is_a_text(text: str, typed: bool, answer: str) -> None:
    for form in ("plan", "answer"):
        reader, _ = read(text, form=form, typed=typed)
        assert (reader.answer, reader.plan, kinds(reader)) == (answer, None, ["unclosed_answer"])


@pytest.mark.parametrize(
    ("text", "typed", "answer"),
    [
        ("It is 42.", False, "It is 42."),
        ("```json\n[4, 2]\n```<|end|>", True, "[4, 2]"),
        ('So: {"x": 1}', True, '{"x": 1}'),
        ('{"result": 7}', True, "7"),
        ("<think>{so}</think> 42", True, "42"),
    ],
)
def test_an_answer_that_was_asked_for_needs_no_key(text: str, typed: bool, answer: str) -> None:
    reader, _ = read(text, form="answer", typed=typed)
    assert reader.answer == answer
    assert read(text, form="plan", typed=typed)[0].answer is None


def test_an_answer_that_was_asked_for_is_no_plan() -> None:
    reader, items = read('{"subtasks": ["a"], "answer": "b"}', form="answer")
    assert (prompts(items), reader.answer) == ([], "b")


def test_nothing_is_no_answer() -> None:
    for text in ("", "<|end|>", "```json\n```"):
        reader, _ = read(text, form="answer")
        assert (reader.answer, kinds(reader)) == (None, ["empty_answer"])


def test_a_chain_ends_with_its_last_answer() -> None:
    text = 'Say {x}: {"answer": 1}? No: 2.\n{"answer": 2}<|end|>'
    reader, _ = read(text, form="chain", typed=True)
    assert (reader.chain, reader.answer) == ('Say {x}: {"answer": 1}? No: 2.\n', "2")
    assert reader.diagnostics == []
    reader, _ = read("and so on", form="chain")
    assert (reader.chain, reader.answer) == ("and so on", None)


def test_words_around_a_plan_are_ignored_and_reported() -> None:
    reader, items = read("Here you are:\n" + PLAN + "\nGood luck!")
    assert len(prompts(items)) == 2
    assert kinds(reader) == ["text_outside"]
    assert "Here you are" in reader.diagnostics[0].message


def test_thoughts_before_a_plan_are_its_chain() -> None:
    assert read("Hm.</think>" + PLAN)[0].chain == "Hm."


@given(chunked(loose_texts), st.sampled_from(["plan", "chain", "answer"]), st.booleans())
def test_the_items_do_not_depend_on_the_chunks(chunks: list[str], form: Form, typed: bool) -> None:
    whole, expected = read("".join(chunks), form=form, typed=typed)
    reader, items = read(chunks, form=form, typed=typed)
    assert items == expected
    assert (reader.plan, reader.answer, reader.chain) == (whole.plan, whole.answer, whole.chain)
    assert (reader.spans, reader.prompts, reader.diagnostics) == (whole.spans, whole.prompts, whole.diagnostics)


@given(st.text() | loose_texts, st.sampled_from(["plan", "chain", "answer"]))
def test_any_text_is_read(text: str, form: Form) -> None:
    reader, items = read(text, form=form)
    ends = [item.end for item in items]
    assert ends == sorted(ends)
    assert all(0 < end <= len(text) for end in ends)
    spans = [place for span in reader.spans for place in (span.start, span.end)]
    assert spans == sorted(spans)
    assert all(number > other for number, _, after in prompts(items) for other in after)
    assert reader.close() == []


@given(
    st.lists(st.text().filter(lambda text: text.strip() and not is_placeholder(text)), max_size=5), st.text(), st.data()
)
def test_a_policys_plan_is_read_back(texts: list[str], thoughts: str, data: st.DataObject) -> None:
    after = [data.draw(st.lists(st.integers(1, index), unique=True)) if index else [] for index in range(len(texts))]
    dialect = JsonDialect()
    pieces = dialect.write_plan(1, thoughts, texts, after=after)
    written = "".join(pieces).removeprefix(dialect.write_opening(1, "plan"))
    reader, items = read(written)
    assert prompts(items) == [(number, text, tuple(after[number - 1])) for number, text in enumerate(texts, 1)]
    assert kinds(reader) == ([] if texts else ["no_plan"])
    start = len(dialect.write_opening(1, "plan"))
    ends = [item.end for item in items]
    assert ends == [len("".join(pieces[:count])) - start for count in range(1, len(texts) + 1)]


def test_a_broken_subtask_keeps_its_prompt() -> None:
    _, items = read('{"subtasks": [{"prompt": "Say "yes"", "after": []}, {prompt: 25+7*3}]}')
    assert [prompt for _, prompt, _ in prompts(items)] == ['Say "yes"', "25+7*3"]


@pytest.mark.parametrize(
    "unit",
    [
        "x", "{", "[", '"', "'", "\\", "/", "#", '{"a":', '{"prompt": "a"}, ', "{'prompt': 'a'}", '"a" ', "<think>",
        "</think>", "<|e", '{"answer": 1} ', '{"subtasks": [{"prompt": "', "{a:", '", "',
    ],
)  # fmt: skip
@pytest.mark.parametrize("start", ["", '{"subtasks": [', '{"subtasks": [{"prompt": "', '{"answer": ['])
def test_work_is_linear(start: str, unit: str) -> None:
    assert calls(start + unit * 800) <= 6 * calls(start + unit * 200)


def calls(text: str) -> int:
    """Count the functions, Python's and C's, that are called to read ``text`` in chunks of 5 characters."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        read([text[start : start + 5] for start in range(0, len(text), 5)])
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("…", "placeholder"),
        (" <...> ", "placeholder"),
        ("carry out one  subtask", "copied_prompt"),
        ("split the task into two or more subtasks", "copied_prompt"),
        ("the task", None),
        ("wait…", None),
    ],
)
def test_a_copy_of_the_words_is_no_subtask(prompt: str, kind: str | None) -> None:
    """A model may copy what it was told instead of a subtask; it is told so, and plans again."""
    reader = JsonDialect().read_plan(1, "plan")
    items = [*reader.feed(json.dumps({"subtasks": [{"prompt": prompt}]})), *reader.close()]
    assert [item.prompt for item in items] == ([] if kind else [prompt])
    assert kinds(reader) == ([kind, "no_plan"] if kind else [])


@pytest.mark.parametrize("form", ["plan", "answer", "chain"])
@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("answer", ['"…"', '" ... "', '"<…>"', "…", "[…]"])
def test_a_placeholder_is_no_answer(answer: str, typed: bool, form: Form) -> None:
    reader, _ = read(f'{{"answer": {answer}}}', form=form, typed=typed)
    assert reader.answer is None
    assert "placeholder" in kinds(reader)


@pytest.mark.parametrize(
    "written", ['{"answer": {"answer": "four"}}', '{"answer": {"result": "four"}}', '{"answer": "four"}']
)
def test_a_text_that_is_wrapped_twice_is_unwrapped(written: str) -> None:
    reader, _ = read(written)
    assert reader.answer == "four"


def test_a_plan_is_no_answer() -> None:
    reader, _ = read('{"subtasks": ["a"]}', form="answer")
    assert (reader.answer, kinds(reader)) == (None, ["empty_answer"])
