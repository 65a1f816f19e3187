import pytest
from hypothesis import given

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.dialects.tags.lexer import Lexer, Tag
from tests.dialects.texts import chunked

LONGEST_TAG = len("</execution_123456789.123456789>") + 8


def lex(*chunks: str) -> list[str | Tag]:
    lexer = Lexer(load_tags())
    return [piece for chunk in chunks for piece in lexer.feed(chunk)] + lexer.close()


def tags(*chunks: str) -> list[Tag]:
    return [piece for piece in lex(*chunks) if isinstance(piece, Tag)]


@pytest.mark.parametrize("text", ["<Plan_12>", "</prompt_3.14>", "</Execution_1>", "<Final_answer>", "</think>"])
def test_a_tag_comes_out_with_its_last_character(text: str) -> None:
    lexer = Lexer(load_tags())
    assert [piece for character in text[:-1] for piece in lexer.feed(character)] == []
    (tag,) = lexer.feed(text[-1])
    assert isinstance(tag, Tag)
    assert (tag.text, tag.exact, tag.complete) == (text, True, True)


@pytest.mark.parametrize(
    ("text", "name", "numbers"),
    [
        ("<PLAN_1>", "plan", (1,)),
        ("<prompt_ 1.2 >", "prompt", (1, 2)),
        ("</final_answer>", "answer", ()),
        ("<Execution_1.2>", "execution", (1, 2)),
        ("<execution_1>", "executions", (1,)),
        ("</Plan_", "plan", ()),
        ("</Execution_", "executions", ()),
        ("</execution_", "execution", ()),
        ("</prompt_1.", "prompt", (1,)),
        ("<prompt_01.2>", "prompt", (1, 2)),
    ],
)
def test_odd_tags_are_read_but_not_exact(text: str, name: str, numbers: tuple[int, ...]) -> None:
    (tag,) = tags(text)
    assert (tag.name, tag.numbers, tag.exact) == (name, numbers, False)


@pytest.mark.parametrize(
    "text",
    ["<Plan_>", "<Plan_x>", "<prompt_1>", "<prompt_1.2", "<Final answer>", "< Plan_1>", "<Plan_1234567890>", "<b>"],
)
def test_what_is_no_tag_is_text(text: str) -> None:
    assert "".join(str(piece) for piece in lex(text)) == text


@given(chunked())
def test_pieces_are_the_text_and_do_not_depend_on_chunks(chunks: list[str]) -> None:
    text = "".join(chunks)
    position = 0
    for piece in lex(*chunks):
        written = piece if isinstance(piece, str) else piece.text
        assert text.startswith(written, position)
        if isinstance(piece, Tag):
            assert (piece.start, piece.end) == (position, position + len(written))
        position += len(written)
    assert position == len(text)
    assert tags(*chunks) == tags(text) == tags(*text)


@pytest.mark.parametrize("unit", ["<", "x", "<Plan_", "</prompt_1.", "</Plan_1 ", "<Final_", "</Plan_999999999"])
def test_what_is_held_back_is_shorter_than_a_tag(unit: str) -> None:
    lexer = Lexer(load_tags())
    work = 0
    for character in unit * 1000:
        # A call looks at what is held and at the chunk, at nothing else.
        work += len(lexer.held) + 1
        lexer.feed(character)
        assert len(lexer.held) <= LONGEST_TAG
    assert work <= 1000 * len(unit) * LONGEST_TAG


def test_a_long_line_passes_at_once() -> None:
    lexer = Lexer(load_tags())
    line = "x" * 1_000_000
    assert lexer.feed(line) == [line]
    assert lexer.held == ""
