import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.markup import markup
from sprint_agents.testing import FakeEngine


def test_a_completion_without_a_stop_ends_with_the_end_token(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("all of it")
        answer = await ask(engine, "go")
        assert answer.text == "all of it"
        assert answer.ids == [*await engine.encode("all of it"), engine.end_id]
        assert (answer.finish.reason, answer.finish.matched) == ("stop", engine.end_id)

    asyncio.run(main())


@pytest.mark.parametrize("end", ["<|im_end|>", "</Plan_end>"])
def test_an_end_token_may_have_a_text_that_replies_can_write(ask, end: str) -> None:
    async def main() -> None:
        engine = FakeEngine(["one", f"two{end}three"], end_text=end)
        assert (await ask(engine, "go")).text == f"one{end}"
        answer = await ask(engine, "go")
        assert answer.text == f"two{end}"
        assert await engine.encode(markup(end)) == [answer.finish.matched] == [engine.end_id]

    asyncio.run(main())


def test_a_stop_id_ends_the_completion_and_is_kept(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("one</execution_1.1> two</execution_1.2>")
        answer = await ask(engine, "go", stop_ids=("</Plan_", "</execution_"))
        assert answer.text == "one</execution_"
        assert answer.finish.reason == "stop"
        assert answer.finish.matched == answer.ids[-1] == (await engine.encode(markup("</execution_")))[0]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("stops", "text", "matched"),
    [
        ((" 2",), "1 2", " 2"),
        (("1 2 3",), "1 2 3", "1 2 3"),
        (("4", "2"), "1 2", "2"),
        (("ee", "five"), "1 2 3 4 three", "ee"),
        (("th", "hre"), "1 2 3 4 three", "th"),
    ],
)
def test_the_first_stop_text_ends_the_completion_after_the_token_that_completes_it(ask, stops, text, matched) -> None:
    async def main() -> None:
        answer = await ask(FakeEngine("1 2 3 4 three five"), "go", stop_texts=stops)
        assert (answer.text, answer.finish.reason, answer.finish.matched) == (text, "stop", matched)

    asyncio.run(main())


def test_whichever_of_stop_id_and_stop_text_comes_first_ends_it(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("a b c d")
        early_id = await ask(engine, "go", stop_ids=(" b",), stop_texts=("c",))
        assert (early_id.text, early_id.finish.matched) == ("a b", early_id.ids[-1])
        early_text = await ask(engine, "go", stop_ids=(" d",), stop_texts=("c",))
        assert (early_text.text, early_text.finish.matched) == ("a b c", "c")

    asyncio.run(main())


@given(
    words=st.lists(st.sampled_from(["a", "b", "c", "<Plan_", "</Plan_"]), max_size=12),
    stops=st.sets(st.sampled_from(["a", "b", "</Plan_"])),
    max_tokens=st.integers(0, 14),
    chunk_tokens=st.none() | st.integers(1, 5),
)
def test_length_and_stop_agree_with_cutting_by_hand(words, stops, max_tokens, chunk_tokens) -> None:
    text = ".".join(words)

    async def main() -> None:
        engine = FakeEngine(text, chunk_tokens=chunk_tokens)
        stop_ids = {(await engine.encode(markup(stop)))[0] for stop in stops}
        expected = [*await engine.encode(markup(text)), engine.end_id]
        end = next(i for i, token in enumerate(expected) if token in stop_ids or token == engine.end_id) + 1
        request = Request(
            id="1",
            context=Context().extend(await engine.encode("go"), "go"),
            max_tokens=max_tokens,
            sampling=Sampling(),
            stop_ids=frozenset(stop_ids),
        )
        chunks = [chunk async for chunk in engine.complete(request)]
        ids = [token for chunk in chunks for token in chunk.ids]
        assert ids == expected[: min(end, max_tokens)]
        assert "".join(chunk.text for chunk in chunks) == await engine.decode(ids)
        assert [chunk.finish is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
        assert all(len(chunk.ids) <= (chunk_tokens or 99) for chunk in chunks)
        finish = chunks[-1].finish
        if end <= max_tokens:
            assert (finish.reason, finish.matched) == ("stop", ids[-1])
        else:
            assert (finish.reason, finish.matched) == ("length", None)

    asyncio.run(main())
