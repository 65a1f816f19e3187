"""The radix cache, in the server's own counts: cached tokens per request, prompt tokens computed in all."""

import asyncio
from itertools import count

from sprint_agents.context import Context
from sprint_agents.engine import Finish, Request, Sampling
from sprint_agents.engines.sglang import SGLangEngine

from .conftest import Connect

WIDTH = 8
_numbers = count()


async def context(engine: SGLangEngine, problem: int, *, tokens: int) -> Context:
    """A context of about ``tokens`` tokens that begins like no other problem's."""
    text = f"Use {problem}, 25, 7, 3 to make 81.\n"
    ids = await engine.encode(text)
    times = tokens // len(ids)
    return Context().extend(ids * times, text * times)


async def finish(engine: SGLangEngine, at: Context, *, max_tokens: int) -> tuple[Context, Finish]:
    request = Request(
        id=f"cache-{next(_numbers):06}", context=at, max_tokens=max_tokens, sampling=Sampling(temperature=0)
    )
    chunks = [chunk async for chunk in engine.complete(request)]
    after = at.extend([token for chunk in chunks for token in chunk.ids], "".join(chunk.text for chunk in chunks))
    assert chunks[-1].finish is not None
    return after, chunks[-1].finish


async def fan_out(engine: SGLangEngine, root: Context) -> list[Finish]:
    """Start ``WIDTH`` siblings at once, each with two different tokens."""
    own = [await engine.encode(f"{number} ") for number in range(WIDTH)]
    children = [root.extend(ids, "? ") for ids in own]
    finished = await asyncio.gather(*(finish(engine, child, max_tokens=4) for child in children))
    return [end for _, end in finished]


def test_after_a_commit_every_sibling_reads_the_whole_prefix(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, counters):
            await counters.forget()
            root = await context(engine, 50, tokens=1000)
            before = await counters.load()
            _, committed = await finish(engine, root, max_tokens=0)
            assert (committed.reason, committed.cached_tokens, committed.prompt_tokens) == ("length", 0, len(root))
            ends = await fan_out(engine, root)
            assert [end.cached_tokens for end in ends] == [len(root)] * WIDTH
            after = await counters.load()
            own = sum(end.prompt_tokens - len(root) for end in ends)
            assert after.computed_prompt_tokens - before.computed_prompt_tokens == len(root) + own

    asyncio.run(main())


def test_what_a_model_wrote_is_cached_too(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, counters):
            await counters.forget()
            root = await context(engine, 48, tokens=200)
            written, _ = await finish(engine, root, max_tokens=40)
            _, end = await finish(engine, written.extend(await engine.encode("7 "), "7 "), max_tokens=1)
            # The last token written was never read by the model.
            assert end.cached_tokens == len(written) - 1

    asyncio.run(main())


def test_the_same_context_again_computes_one_token(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, counters):
            await counters.forget()
            root = await context(engine, 47, tokens=200)
            _, first = await finish(engine, root, max_tokens=1)
            _, second = await finish(engine, root, max_tokens=1)
            assert (first.cached_tokens, second.cached_tokens) == (0, len(root) - 1)

    asyncio.run(main())


def test_fields_of_the_users_own_reach_the_server(connect: Connect) -> None:
    """An ``extra_key`` separates caches, and a regular expression constrains a completion."""

    async def complete_for(tenant: str) -> int:
        extra = {"extra_key": tenant, "sampling_params": {"regex": "[0-9]{30}"}}
        async with connect(extra=extra) as (engine, _):
            root = await context(engine, 46, tokens=200)
            written, end = await finish(engine, root, max_tokens=3)
            assert written.text[len(root.text) :].isdecimal()
            return end.prompt_tokens - end.cached_tokens

    async def main() -> None:
        first, other, again = [await complete_for(tenant) for tenant in ("first", "other", "first")]
        assert first == other > 100
        assert again == 1

    asyncio.run(main())
