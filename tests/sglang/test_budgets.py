"""A run under a scarce budget is the run without one, in more requests, whose contexts the server has in its cache."""

import asyncio

from sprint_agents import Budget, Limits, Sampling, Sprint, State
from sprint_agents.context import Context
from sprint_agents.generation import Generation
from sprint_agents.state import Stops

from .conftest import Connect

TASK = "countdown 3 7 25 46"


def test_a_run_is_the_same_under_a_scarce_budget(connect: Connect) -> None:
    async def main() -> None:
        limits = Limits(stages=3, plan_tokens=200, execution_tokens=200, answer_tokens=40)
        async with connect() as (engine, _):
            # What executions cost that are cut off depends on the server's speed.
            sprint = Sprint(engine, limits=limits, sampling=Sampling(temperature=0), settles=False)
            free = await sprint.run(TASK)
            scarce = await sprint.run(TASK, budget=Budget(tokens=free.usage.total_tokens))
        assert scarce.transcript == free.transcript
        assert scarce.usage.total_tokens == free.usage.total_tokens
        assert scarce.usage.calls > free.usage.calls
        # A continuation computes the last token of its context, and what follows.
        more = scarce.usage.calls - free.usage.calls
        assert scarce.usage.recomputed_tokens <= free.usage.recomputed_tokens + more

    asyncio.run(main())


def test_a_stop_text_over_the_border_is_found(connect: Connect) -> None:
    async def main() -> None:
        async with connect() as (engine, counters):
            prompt = Context().extend(await engine.encode(TASK), TASK)

            async def generate(tokens: int, *, more: int = 0, stop: str | None = None) -> Generation:
                grants = iter([more])

                async def extend() -> int:
                    return next(grants, 0)

                stops = Stops(texts=(stop,) if stop else ())
                state = State(engine, prompt, sampling=Sampling(temperature=0))
                async with state.stream(max_tokens=tokens, stops=stops, extend=extend) as generation:
                    await generation.drain()
                return generation

            whole = await generate(24)
            start = await engine.decode(whole.ids[:10])
            stop = whole.text[len(start) - 2 : len(start) + 3]
            once = await generate(24, stop=stop)
            twice = await generate(10, more=14, stop=stop)
            assert twice.ids == once.ids
            assert twice.text == once.text
            assert twice.finish is not None
            assert (twice.finish.reason, twice.finish.matched) == ("stop", stop)
            assert (await generate(10, more=14)).ids == whole.ids
            await counters.idle()

    asyncio.run(main())
