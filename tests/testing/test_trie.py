"""The cache tells the truth: compared with a list of everything that was ever computed."""

import asyncio
import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.errors import InvalidRequest
from sprint_agents.testing import FakeEngine, Latency, run_virtual

pieces = st.lists(st.sampled_from(["a", "b", "ab ba", "a a a", "b</Plan_", ""]), max_size=4).map("".join)
texts = st.lists(pieces, max_size=3)
moves = st.lists(st.tuples(st.integers(0, 50), texts, pieces, st.integers(0, 6)), min_size=1, max_size=12)


def common(left: list[int], right: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


@pytest.mark.parametrize("latency", [Latency(), Latency(prompt_token=0.001, token=0.01)])
@given(moves)
def test_cached_tokens_are_the_longest_prefix_computed_before(latency: Latency, steps) -> None:
    """Grow a random tree of contexts, some re-encoded from scratch, and complete each."""

    async def main() -> None:
        replies = [reply for _, _, reply, max_tokens in steps if max_tokens]
        engine = FakeEngine(replies, latency=latency)
        contexts = [Context().extend(await engine.encode("a"), "a")]
        computed: list[list[int]] = []
        for number, (parent, texts, _, max_tokens) in enumerate(steps):
            context = contexts[parent % len(contexts)]
            for text in texts:
                context = context.extend(await engine.encode(text), text)
            if parent % 3 == 0:
                context = Context().extend(context.flatten(), context.text)
            request = Request(id=f"{number:03d}", context=context, max_tokens=max_tokens, sampling=Sampling())
            chunks = [chunk async for chunk in engine.complete(request)]
            ids = context.flatten()
            finish = chunks[-1].finish
            assert finish.prompt_tokens == len(ids)
            assert finish.cached_tokens == max((common(ids, other) for other in computed), default=0)
            for chunk in chunks:
                context = context.extend(chunk.ids, chunk.text)
            computed.append(context.flatten())
            contexts.append(context)

    run_virtual(main())


def test_a_prompt_is_in_the_cache_only_when_it_is_computed(ask) -> None:
    async def main() -> list[int]:
        engine = FakeEngine("done", latency=Latency(prompt_token=1.0))
        together = await asyncio.gather(ask(engine, "a b c d"), ask(engine, "a b c d"))
        later = await ask(engine, "a b c e")
        return [answer.finish.cached_tokens for answer in (*together, later)]

    assert run_virtual(main()) == [0, 0, 3]


def test_what_is_being_generated_can_be_forked_at_once(ask, make_request) -> None:
    async def main() -> None:
        engine = FakeEngine({"plan": "one two three four", "one": "branch"}, latency=Latency(token=1.0))
        request = await make_request(engine, "plan")
        stream = engine.complete(request)
        context = request.context
        for _ in range(2):
            chunk = await anext(stream)
            context = context.extend(chunk.ids, chunk.text)
        branch = context.extend(await engine.encode("!"), "!")
        assert (await ask(engine, branch)).finish.cached_tokens == 3
        await stream.aclose()

    run_virtual(main())


def test_computing_without_generating_warms_the_cache(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("never asked for")
        warm = await ask(engine, "a shared prefix", max_tokens=0)
        assert (warm.ids, warm.text, warm.finish.reason, warm.finish.matched) == ([], "", "length", None)
        assert (await ask(engine, "a shared prefix and more")).finish.cached_tokens == 3

    asyncio.run(main())


def test_a_chain_of_ten_thousand_contexts_needs_no_recursion(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("end")
        (step,) = await engine.encode("step")
        context = Context()
        for _ in range(10_000):
            context = context.extend([step], "step")
        assert (await ask(engine, context)).finish.cached_tokens == 0
        assert (await ask(engine, context)).finish.cached_tokens == 10_000

    asyncio.run(main())


def test_a_request_costs_what_it_adds_however_long_its_context(ask) -> None:
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call" and "sprint_agents" in frame.f_code.co_filename

    async def main() -> list[int]:
        nonlocal calls
        engine = FakeEngine([" step" * 3000, *["end"] * 4000])
        costs: list[int] = []
        context = Context().extend(await engine.encode("one"), "one")
        written = (await ask(engine, context, max_tokens=3000)).ids
        # First along what was generated, then beyond it.
        for token in (*written, *await engine.encode(" more" * 1000)):
            context = context.extend([token], "")
            calls = 0
            await ask(engine, context)
            costs.append(calls)
        return costs

    sys.setprofile(count)
    try:
        costs = asyncio.run(main())
    finally:
        sys.setprofile(None)
    assert max(costs[2000:]) <= max(costs[:10])


def test_a_foreign_token_id_is_refused_and_harms_nothing(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("reply")
        good = Context().extend(await engine.encode("fine so far"), "fine so far")
        with pytest.raises(InvalidRequest, match="token id 4242 is outside the vocabulary"):
            await ask(engine, good.extend([4242], "?"))
        assert (await ask(engine, good)).finish.cached_tokens == 0
        assert engine.account().failed == 1

    asyncio.run(main())
