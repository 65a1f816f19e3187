import sys
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.dialects.completions import PromptClosed
from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.dialects.tags.plans import TagPlanReader
from tests.dialects.texts import chunked, tagged_texts

Beginning = Literal["outside", "chain", "plan", "answer"]

PLAN = """<Plan_1>
Sums first, products next.
-----
<prompt_1.1>Try all sums.</prompt_1.1>
-----
<prompt_1.2>
Try all products.
</prompt_1.2>
</Plan_"""


def read(
    text: Sequence[str] | str, *, stage: int = 1, within: Beginning = "outside"
) -> tuple[TagPlanReader, list[PromptClosed]]:
    reader = TagPlanReader(load_tags(), stage=stage, within=within)
    items = [item for chunk in text for item in reader.feed(chunk)]
    return reader, items + reader.close()


def kinds(reader: TagPlanReader) -> list[str]:
    return [diagnostic.kind for diagnostic in reader.diagnostics]


def test_a_plan() -> None:
    reader, items = read(PLAN)
    first, second = (PLAN.index(close) + len(close) for close in ("</prompt_1.1>", "</prompt_1.2>"))
    assert items == [
        PromptClosed(1, "Try all sums.", first),
        PromptClosed(2, "Try all products.", second),
    ]
    assert list(reader.prompts) == [1, 2]
    assert reader.plan == PLAN.removeprefix("<Plan_1>").removesuffix("</Plan_")
    assert (reader.answer, reader.chain, reader.diagnostics) == (None, None, [])
    assert [PLAN[tag.start : tag.end] for tag in reader.spans] == [
        "<Plan_1>",
        "<prompt_1.1>",
        "</prompt_1.1>",
        "<prompt_1.2>",
        "</prompt_1.2>",
        "</Plan_",
    ]


def test_a_prompt_closes_with_the_chunk_of_its_last_character() -> None:
    reader = TagPlanReader(load_tags(), stage=1)
    end = PLAN.index("</prompt_1.1>") + len("</prompt_1.1>")
    assert reader.feed(PLAN[: end - 1]) == []
    assert reader.place == "prompt"
    assert reader.feed(PLAN[end - 1]) == [PromptClosed(1, "Try all sums.", end)]
    assert reader.place == "plan"


def test_an_answer() -> None:
    text = "<Final_answer>\nBased on execution_1.2: \\boxed{7*3+5}\n</Final_answer>"
    reader, items = read(text, stage=2)
    assert (items, reader.answer, reader.plan) == ([], "7*3+5", None)
    assert reader.spans[-1].end == len(text)


def test_a_completion_may_begin_in_the_answer() -> None:
    reader, items = read("\n42\n</Final_answer>", within="answer")
    assert (items, reader.answer, reader.spans[-1].end) == ([], "42", 19)
    assert reader.diagnostics == []


def test_a_forced_answer_may_repeat_its_tag() -> None:
    reader, items = read("<Final_answer>42</Final_answer>", within="answer")
    assert (items, reader.answer, reader.spans[-1].end) == ([], "42", 31)
    assert kinds(reader) == ["unexpected_tag"]


def test_a_completion_may_begin_in_the_plan() -> None:
    reader, items = read(" <prompt_3.1>a</prompt_3.1></Plan_", stage=3, within="plan")
    assert items == [PromptClosed(1, "a", 27)]
    assert reader.spans[-1].end == 34
    assert reader.diagnostics == []


def test_a_chain_of_thought_precedes_its_answer() -> None:
    reader, items = read("1+2=3\n</think>\n<Final_answer>3</Final_answer>", within="chain")
    assert (items, reader.answer, reader.spans[-1].end) == ([], "3", 45)
    assert (reader.chain, reader.diagnostics) == ("1+2=3\n", [])


def test_a_chain_may_lack_its_tags() -> None:
    assert read("so\n</think>\n<Final_answer>3</Final_answer>")[0].chain == "so\n"
    assert read("<think>so\n<Final_answer>3</Final_answer>")[0].chain == "so\n"
    assert read("so it goes", within="chain")[0].chain == "so it goes"


def test_a_chain_may_name_a_prompt() -> None:
    reader, _ = read("<think>use <prompt_1.1>\n</think><Plan_1>none</Plan_")
    assert (reader.chain, reader.plan, reader.prompts) == ("use <prompt_1.1>\n", "none", {})


@pytest.mark.parametrize("tail", ["</Plan_", "</Plan_1", "</Plan_1>", "</Plan_1>\n"])
def test_a_plan_closes_wherever_the_model_stopped(tail: str) -> None:
    reader, items = read(f"<Plan_1>none{tail}")
    assert (items, reader.spans[-1].end) == ([], len(f"<Plan_1>none{tail}".rstrip()))
    assert (reader.plan, reader.diagnostics) == ("none", [])


@pytest.mark.parametrize(
    ("text", "expected", "numbers"),
    [
        ("<plan_1><prompt_1.1>a</prompt_1.1></Plan_", ["misspelt_tag"], [1]),
        ("<Plan_1><prompt_ 1.1>a</prompt_1.1></Plan_", ["misspelt_tag"], [1]),
        ("<Plan_1><prompt_1.1>a</prompt_ b</Plan_", ["misspelt_tag"], [1]),
        ("<Plan_3><prompt_1.1>a</prompt_1.1></Plan_", ["wrong_number"], [1]),
        ("<Plan_1><prompt_2.1>a</prompt_2.1></Plan_", ["wrong_number", "wrong_number"], [1]),
        ("<Plan_1><prompt_1.1>a</prompt_1.2></Plan_", ["wrong_number"], [1]),
        ("<Plan_1><prompt_1.0>a</prompt_1.0></Plan_", ["wrong_number"], []),
        ("<Plan_1>a</Plan_2>", ["wrong_number"], []),
        ("<Plan_1><prompt_1.1>a</prompt_1.1><prompt_1.1>b</prompt_1.1></Plan_", ["duplicate_number"], [1]),
        ("<Plan_1><prompt_1.1>a</prompt_1.1><prompt_1.3>b</prompt_1.3></Plan_", ["skipped_number"], [1, 3]),
        ("<Plan_1><prompt_1.2>a</prompt_1.2><prompt_1.1>b</prompt_1.1></Plan_", ["skipped_number"] * 2, [2, 1]),
        ("<prompt_1.1>a</prompt_1.1></Plan_", ["prompt_outside_plan"], [1]),
        ("<Plan_1><prompt_1.1>a<prompt_1.2>b</prompt_1.2></Plan_", ["nested_prompt"], [1, 2]),
        ("<Plan_1><prompt_1.1>a<prompt_1.1>b</prompt_1.1></Plan_", ["nested_prompt"], [1]),
        ("<Plan_1><prompt_1.1> </prompt_1.1></Plan_", ["empty_prompt"], []),
        ("<Plan_1><prompt_1.1></prompt_1.1><prompt_1.1>b</prompt_1.1></Plan_", ["empty_prompt"], [1]),
        ("<Plan_1><prompt_1.1>a</Plan_", ["unclosed_prompt"], [1]),
        ("<Plan_1><prompt_1.1>a", ["unclosed_prompt", "unclosed_plan"], []),
        ("<Plan_1><prompt_1.1>a</prompt_1.1> and", ["unclosed_plan"], [1]),
        ("<Plan_1></prompt_1.1></Plan_", ["unopened_tag"], []),
        ("so be it</Plan_", ["unopened_tag"], []),
        ("<Plan_1><Plan_1></Plan_", ["unexpected_tag"], []),
        ("<Plan_1><execution_1.1>a</execution_1.1></Plan_", ["unexpected_tag"] * 2, []),
        ("<Plan_1>done <Final_answer>4</Final_answer>", ["answer_in_plan"], []),
        ("<Plan_1><prompt_1.1>a<Final_answer>4</Final_answer>", ["answer_in_plan", "unclosed_prompt"], []),
        ("<Final_answer>4", ["unclosed_answer"], []),
        ("<Final_answer> </Final_answer>", ["empty_answer"], []),
        ("4</Final_answer>", ["unopened_tag"], []),
        ("Sure!<Plan_1></Plan_", ["text_outside"], []),
        ("<Plan_1></Plan_1>\n<Execution_1>", ["text_outside"], []),
        ("nothing of the kind", ["text_outside"], []),
        ("<Final_answer>4</Final_answer> or 5", ["text_after_answer"], []),
        ("", [], []),
    ],
)
def test_diagnostics(text: str, expected: list[str], numbers: list[int]) -> None:
    reader, items = read(text)
    assert kinds(reader) == expected
    assert [item.number for item in items] == numbers
    assert list(reader.prompts) == numbers


def test_a_diagnostic_says_where_and_what() -> None:
    reader, _ = read("<Plan_2>\n<prompt_2.1>a</prompt_2.1>\n<prompt_2.1>b</prompt_2.1></Plan_", stage=2)
    (diagnostic,) = reader.diagnostics
    assert (diagnostic.stage, diagnostic.number, diagnostic.position) == (2, 1, 36)
    assert "2.1" in diagnostic.message


def test_a_prompt_without_its_end_says_what_it_lacks() -> None:
    text = "<Plan_1><prompt_1.1>a\n<prompt_1.2>b</prompt_1.2><prompt_1.3>c</Plan_"
    _, items = read(text)
    assert [(item.prompt, item.rest) for item in items] == [
        ("a", "</prompt_1.1>"),
        ("b", ""),
        ("c", "</prompt_1.3>"),
    ]
    assert all((text[: item.end] + item.rest).endswith(f"</prompt_1.{item.number}>") for item in items)


def test_a_restarted_prompt_is_the_second_one() -> None:
    reader, _ = read("<Plan_1><prompt_1.1>ab<prompt_1.1>abc</prompt_1.1></Plan_")
    assert reader.prompts[1].prompt == "abc"


def test_what_was_never_opened_is_all_text_so_far() -> None:
    assert read("so be it</Plan_")[0].plan == "so be it"
    assert read("it is 4</Final_answer>")[0].answer == "it is 4"


def test_a_cut_off_answer_is_kept_without_end_tokens() -> None:
    assert read("<Final_answer>\n42 <|im_end|>\n")[0].answer == "42"
    assert read("<Final_answer>\n")[0].answer is None


def test_end_tokens_are_no_text() -> None:
    reader, _ = read("<Final_answer>42</Final_answer>\n<|im_end|>\n</s>")
    assert reader.diagnostics == []


@given(chunks=chunked(), within=st.sampled_from(["outside", "chain", "plan", "answer"]), stage=st.integers(1, 3))
def test_items_do_not_depend_on_chunks(chunks: list[str], within: Beginning, stage: int) -> None:
    text = "".join(chunks)
    (reader, items), (whole, expected) = (read(cut, stage=stage, within=within) for cut in (chunks, [text]))
    assert items == expected
    assert (reader.plan, reader.answer, reader.chain) == (whole.plan, whole.answer, whole.chain)
    assert (reader.prompts, reader.diagnostics, reader.spans) == (whole.prompts, whole.diagnostics, whole.spans)
    assert reader.close() == []


@given(text=st.one_of(tagged_texts, st.text()), within=st.sampled_from(["outside", "chain", "plan", "answer"]))
def test_what_comes_out_lies_in_the_text(text: str, within: Beginning) -> None:
    reader, items = read(text, within=within)
    assert all(0 <= diagnostic.position <= len(text) for diagnostic in reader.diagnostics)
    assert all(text[tag.start : tag.end] == tag.text for tag in reader.spans)
    ends = [item.end for item in items]
    assert ends == sorted(ends)
    assert len({item.number for item in items}) == len(reader.prompts)


@pytest.mark.parametrize(
    "unit",
    [
        "x",
        "<",
        "<Plan_1>",
        "<prompt_1.1>",
        "<prompt_1.1>a</prompt_1.1>",
        "</Plan_",
        "</think>",
        "<think>",
        "</s>",
        "<|a|>",
    ],
)
def test_work_is_linear(unit: str) -> None:
    assert calls(unit * 400) <= 5 * calls(unit * 100)


def calls(text: str) -> int:
    """Count the functions, Python's and C's, that are called to read ``text`` in chunks of 5 characters."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    chunks = [text[start : start + 5] for start in range(0, len(text), 5)]
    sys.setprofile(profile)
    try:
        read(chunks)
    finally:
        sys.setprofile(None)
    return count
