import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.engines.local.detokenizer import Detokenizer
from tests.engines.local.conftest import VOCABULARY, build_bytes

pytestmark = pytest.mark.local

TOKENIZER = build_bytes()


def ids_of(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def feed(stream: Detokenizer, ids: list[int]) -> list[tuple[str, str | None]]:
    return [stream.feed(token) for token in ids]


@given(st.text(max_size=20), st.text(max_size=4))
def test_text_comes_whole_and_each_character_with_its_last_byte(text: str, prompt: str) -> None:
    stream = Detokenizer(TOKENIZER, ids_of(prompt), ())
    pieces = [piece for piece, _ in feed(stream, ids_of(text))]
    assert "".join(pieces) == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)
    assert stream.flush() == ""


@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=30))
def test_any_tokens_give_what_decoding_them_at_once_gives(ids: list[int]) -> None:
    stream = Detokenizer(TOKENIZER, ids_of("prompt"), ())
    pieces = [piece for piece, _ in feed(stream, ids)]
    assert "".join(pieces) + stream.flush() == TOKENIZER.decode(ids, skip_special_tokens=False)


def test_an_incomplete_character_is_held_back_to_the_end() -> None:
    stream = Detokenizer(TOKENIZER, [], ())
    assert feed(stream, ids_of("aé")[:2]) == [("a", None), ("", None)]
    assert stream.flush() == "\ufffd"


@given(st.text("abc<", min_size=1, max_size=4), st.text("abc<", max_size=30))
def test_a_stop_text_is_seen_with_its_last_character(stop: str, text: str) -> None:
    found = [matched for _, matched in feed(Detokenizer(TOKENIZER, [], ("no such", stop)), ids_of(text))]
    first = found.index(stop) + 1 if stop in found else None
    assert first == (text.index(stop) + len(stop) if stop in text else None)


def test_special_tokens_are_shown_and_may_hold_a_stop_text() -> None:
    assert feed(Detokenizer(TOKENIZER, [], ("top",)), ids_of("x</stop_")) == [("x", None), ("</stop_", "top")]


def test_of_two_stop_texts_the_one_that_ends_first_counts_and_then_the_longer() -> None:
    special = ids_of("</stop_")
    assert feed(Detokenizer(TOKENIZER, [], ("stop_", "sto", "/sto")), special)[0][1] == "/sto"
