import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.errors import InvalidRequest
from sprint_agents.markup import markup
from sprint_agents.testing import FakeEngine

SPECIAL = load_tags().special_tokens
any_text = st.lists(st.text() | st.sampled_from(SPECIAL) | st.sampled_from(["<", "</", "_", " ", "\n"])).map("".join)


async def words(engine: FakeEngine, text: str) -> list[str]:
    return [await engine.decode([token]) for token in await engine.encode(markup(text))]


@given(any_text, any_text)
def test_any_text_comes_back_exactly_with_the_same_ids_each_time(first: str, second: str) -> None:
    async def main() -> None:
        engine = FakeEngine("")
        ids = await engine.encode(first)
        assert await engine.decode(ids) == first
        await engine.encode(second)
        assert await engine.encode(first) == ids
        assert "".join(await words(engine, first)) == first

    asyncio.run(main())


@given(st.lists(st.sampled_from(SPECIAL) | st.text(), max_size=8))
def test_tag_parts_are_single_tokens_wherever_they_stand(pieces: list[str]) -> None:
    text = "".join(pieces)

    async def main() -> None:
        tokens = await words(FakeEngine(""), text)
        for special in SPECIAL:
            assert tokens.count(special) == text.count(special)

    asyncio.run(main())


def test_tokens_are_words_with_their_space_white_space_and_single_signs() -> None:
    async def main() -> None:
        tokens = await words(FakeEngine(""), "Two words,\n\n25+7 </prompt_1.2>")
        assert tokens == ["Two", " words", ",", "\n\n", "25", "+", "7", " ", "</prompt_", "1", ".", "2", ">"]

    asyncio.run(main())


def test_ids_do_not_depend_on_what_other_engines_read() -> None:
    async def main() -> None:
        await FakeEngine("").encode("something else")
        assert await FakeEngine("").encode("a text") == await FakeEngine("").encode("a text")

    asyncio.run(main())


def number(text: str) -> int:
    return int.from_bytes(b"\x01" + text.encode(), "big")


@pytest.mark.parametrize("wrong", [-1, 1, 10**6, 0x01FF, number("two words"), number("a" * 33)])
def test_ids_that_are_no_tokens_are_refused(wrong: int) -> None:
    async def main() -> None:
        engine = FakeEngine("")
        known = await engine.encode("some text")
        with pytest.raises(InvalidRequest, match=f"{wrong} is outside the vocabulary"):
            await engine.decode([*known, wrong])

    asyncio.run(main())


@given(any_text)
def test_an_engine_decodes_the_ids_of_another_one(text: str) -> None:
    async def main() -> None:
        assert await FakeEngine("").decode(await FakeEngine("").encode(text)) == text

    asyncio.run(main())


def test_a_long_word_has_ids_that_json_can_hold() -> None:
    async def main() -> None:
        ids = await FakeEngine("").encode("\U0001d518" * 10_000 + " " * 10_000)
        assert TypeAdapter(list[int]).validate_json(TypeAdapter(list[int]).dump_json(ids)) == ids

    asyncio.run(main())
