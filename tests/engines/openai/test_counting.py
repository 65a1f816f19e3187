"""Token counts are the server's even if ids are characters: in a completion, before its end, and in a budget."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents.budget import Budget, Ledger
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.state import State

from .scripted import Act, ScriptedServer, begins, chunk, events, says, stream, usage

T = TypeVar("T")


def play(act: Act, scene: Callable[[State], Awaitable[T]]) -> T:
    async def main() -> T:
        async with ScriptedServer([act]) as server, OpenAIEngine(server.base, model="tiny") as engine:
            state = State(engine)
            await state.append("How many?")
            return await scene(state)

    return asyncio.run(main())


def test_a_completion_costs_what_the_server_says() -> None:
    async def scene(state: State) -> None:
        generation = await state.generate(max_tokens=20)
        assert state.context.text == "How many?one two three"
        assert len(generation.ids) == len("one two three")
        assert generation.tokens == 3
        assert (generation.prompt_tokens, generation.cached_tokens) == (9, 4)

    play(says("one ", "two ", "three"), scene)


def test_until_then_it_is_estimated() -> None:
    async def scene(state: State) -> None:
        async with state.stream(max_tokens=20) as generation:
            await anext(generation)
            assert (generation.tokens, generation.tokens_before(3)) == (1, 1)
            await anext(generation)
            assert (generation.tokens, generation.tokens_before(3), generation.tokens_before(8)) == (2, 1, 2)
        assert generation.tokens == 2

    play(begins("one ", "two "), scene)


@settings(max_examples=30)
@given(
    texts=st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=6),
    counted=st.integers(7, 200),
    data=st.data(),
)
def test_all_tokens_are_before_the_end_and_none_is_lost_on_the_way(
    texts: list[str], counted: int, data: st.DataObject
) -> None:
    async def scene(state: State) -> None:
        generation = await state.generate(max_tokens=500)
        whole = generation.length
        offsets = sorted(data.draw(st.lists(st.integers(0, whole))))
        before = [generation.tokens_before(offset) for offset in offsets]
        assert before == sorted(before)
        assert generation.tokens_before(0) == 0
        assert generation.tokens_before(whole) == generation.tokens == counted
        assert all(abs(count - counted * offset / whole) <= 1 for count, offset in zip(before, offsets, strict=True))

    sent = events([*map(chunk, texts), chunk(finish="stop"), usage(3, counted)])
    play(stream(sent), scene)


def test_words_that_a_model_keeps_to_itself_come_before_all_others() -> None:
    async def scene(state: State) -> None:
        generation = await state.generate(max_tokens=20)
        assert (generation.text, generation.tokens, generation.tokens_before(0)) == ("", 20, 20)

    thoughts = [chunk(delta={"reasoning_content": "hm"})] * 3
    play(stream(events([*thoughts, chunk(finish="length"), usage(3, 20)])), scene)


@pytest.mark.parametrize(
    ("counted", "reasoning"),
    [
        ({"completion_tokens_details": {"reasoning_tokens": 15}}, 15),
        ({"completion_tokens_details": {"reasoning_tokens": 99}}, 20),  # no more than all of them
        ({"completion_tokens_details": {"reasoning_tokens": 0}}, 3),  # it does not count them: one for each event
        ({"completion_tokens_details": None}, 3),
        ({}, 3),
    ],
)
def test_reasoning_is_counted_as_the_server_does_or_by_its_events(counted: dict[str, Any], reasoning: int) -> None:
    async def scene(state: State) -> None:
        generation = await state.generate(max_tokens=20)
        assert (generation.text, generation.tokens, generation.reasoning_tokens()) == ("so", 20, reasoning)

    thoughts = [chunk(delta={"reasoning_content": "hm"})] * 3
    counts = {"prompt_tokens": 3, "completion_tokens": 20, **counted}
    play(
        stream(events([*thoughts, chunk("so"), chunk(finish="stop"), json.dumps({"choices": [], "usage": counts})])),
        scene,
    )


@pytest.mark.parametrize("left", [begins("one two three four five six"), says("one two three four five six")])
def test_a_budget_is_in_tokens(left: Act) -> None:
    async def scene(state: State) -> None:
        ledger = Ledger(Budget(tokens=50))
        reserved = await ledger.reserve_tokens(20)
        async with state.stream(max_tokens=reserved) as generation:
            await anext(generation)
        ledger.settle(reserved=reserved, used=generation.tokens)
        assert ledger.tokens_left == 50 - 6

    play(left, scene)
