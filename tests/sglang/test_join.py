"""A wide join on a real server: results are computed while later executions still run."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

from sprint_agents import Capabilities, Limits, Run, Sprint
from sprint_agents.engine import Chunk, Finish, Request
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer

from .conftest import Connect
from .runs import GREEDY

WIDTH = 12
PLAN = "<Plan_1>\n" + "".join(f"<prompt_1.{number}>48+{number}</prompt_1.{number}>\n" for number in range(1, WIDTH + 1))


class Staggered(SGLangEngine):
    """Executors write as many tokens as their number says, and the planner's first text is ``PLAN``.

    With ``ahead``, the last one goes on after its first token once the results of all others have been computed,
    however busy the machine is.
    """

    manifest = None
    ahead = True
    others_computed: asyncio.Event

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, caches_contexts=self.ahead)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        text, held = request.context.own_text, False
        last_prefill = not request.max_tokens and f"<execution_1.{WIDTH - 1}>" in request.context.text
        if request.max_tokens and text.startswith("\n<execution_"):
            number = int(text.partition(".")[2].partition(">")[0])
            held = self.ahead and number == WIDTH
            request = replace(request, max_tokens=40 + 12 * number, stop_ids=frozenset(), stop_texts=())
        elif request.max_tokens and "</Plan_1>" not in request.context.text:
            yield Chunk(await self.encode(PLAN), PLAN, Finish("stop", None, len(request.context), 0))
            return
        elif request.max_tokens:
            request = replace(request, max_tokens=8)
        async for chunk in super().complete(request):
            if last_prefill:
                self.others_computed.set()
            yield chunk
            if held:
                await asyncio.wait_for(self.others_computed.wait(), timeout=300)


async def solve(engine: Staggered) -> tuple[Run, int]:
    """Return a run, and how many tokens the request after the join had to compute."""
    engine.others_computed = asyncio.Event()
    run = await Sprint(engine, dialect="tags", sampling=GREEDY, limits=Limits(stages=2)).run("48+24=72\n" * 20)
    cost = run.stages[1].usage.total
    return run, cost.prompt_tokens - cost.cached_tokens


def test_the_request_after_a_wide_join_computes_only_the_last_results(
    connect: Connect, server: SGLangServer, checkpoint: Path
) -> None:
    async def main() -> None:
        options = {"tokenizer": checkpoint, "extra": {"sampling_params": {"ignore_eos": True}}}
        async with connect() as (_, counters), Staggered(server.url, **options) as engine:  # type: ignore[arg-type]
            engine.ahead = False
            await counters.forget()
            plain, all_of_it = await solve(engine)
            engine.ahead = True
            await counters.forget()
            run, rest = await solve(engine)
            assert "prefix" not in {call.role for call in plain.stages[0].calls}
            assert "prefix" in {call.role for call in run.stages[0].calls}
            assert all_of_it > WIDTH * 100
            assert rest < all_of_it / 2
            assert run.transcript == plain.transcript

    asyncio.run(main())
