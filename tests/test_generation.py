"""Tokens of a completion are counted up to any character, in chunks of any size."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Engine, Finish
from sprint_agents.errors import EngineUnavailable
from sprint_agents.generation import Generation
from sprint_agents.testing import FakeEngine

FINISH = Finish("stop", None, 1, 0)
VOCABULARY = ["{", "}", '{"result": ', '"', "</execution_", " word", "é", "\n\n", "1.1>", "<"]


class Vocabulary(FakeEngine):
    """Decodes ids as positions in a list; some decoders drop a space at the beginning."""

    def __init__(self, *, drops_space: bool = False, fails: bool = False) -> None:
        super().__init__("")
        self.drops_space, self.fails = drops_space, fails

    async def decode(self, ids: Sequence[int]) -> str:
        if self.fails:
            raise EngineUnavailable("gone")
        text = "".join(VOCABULARY[number] for number in ids)
        return text.removeprefix(" ") if self.drops_space else text


async def read(engine: Engine, ids: Sequence[int], sizes: Sequence[int]) -> Generation:
    """Read a completion of ``ids`` in chunks of these numbers of tokens."""

    async def chunks() -> AsyncGenerator[Chunk]:
        start = 0
        for size in [*sizes, len(ids)]:
            own = ids[start : start + size]
            start += size
            if own:
                yield Chunk(own, "".join(VOCABULARY[number] for number in own))
        yield Chunk((), "", FINISH)

    generation = Generation(engine, Context(), chunks(), finished=lambda _: None)
    await generation.drain()
    return generation


@settings(deadline=None)
@given(
    st.lists(st.integers(0, len(VOCABULARY) - 1), min_size=1, max_size=12),
    st.lists(st.integers(1, 5), max_size=6),
    st.booleans(),
    st.data(),
)
def test_a_chunk_of_many_tokens_counts_as_chunks_of_one(
    ids: list[int], sizes: list[int], drops_space: bool, data: st.DataObject
) -> None:
    async def main() -> None:
        engine = Vocabulary(drops_space=drops_space)
        one_by_one = await read(engine, ids, [1] * len(ids))
        ends = [sum(len(VOCABULARY[number]) for number in ids[:count]) for count in range(len(ids) + 1)]
        offsets = st.sampled_from(ends) if drops_space else st.integers(0, one_by_one.length)
        known: dict[str, Sequence[int]] = {}
        for start, end in data.draw(st.lists(st.tuples(offsets, offsets).map(sorted), max_size=4)):
            grouped = await read(engine, ids, sizes)
            own = one_by_one.tokens_before(end) - (one_by_one.tokens_before(start) if start else 0)
            assert await grouped.tokens_between(start, end, known=known) == own
            assert (await grouped.cut(grouped.length)).text == one_by_one.text

    asyncio.run(main())


def test_it_stays_pro_rata_where_the_engine_cannot_decode() -> None:
    async def main() -> None:
        generation = await read(Vocabulary(fails=True), [2, 5, 5, 1], [4])
        assert await generation.tokens_between(0, generation.length - 1, known={}) == pytest.approx(4, abs=1)

    asyncio.run(main())
