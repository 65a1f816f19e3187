"""Measure how long the next plan's first token waits after a wide join, on a real SGLang server.

    make sglang && python benchmarks/join.py

``--width`` executors start together and write ``--tokens`` tokens, and a tenth more for each subtask up to theirs, so
they end one after the other. Then the planner is asked for its answer. The time is from the end of the last execution
to its first token, "computed" is what its request had to compute, and "run" the whole time. The ways take turns,
``--rounds`` times, each from an empty cache; medians.

- ahead: the library; results are computed while later executions still run
- after: the library without that; the answer's request computes all of them
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from statistics import median

from radix import GREEDY, Unshared, parser, served

from sprint_agents import Chunk, Limits, Request, Sprint
from sprint_agents.engine import Finish
from sprint_agents.engines import SGLangEngine
from sprint_agents.events import ExecutionFinished, PlannerWrote, StageFinished

HEADER = "\n<execution_"


class Staggered(SGLangEngine):
    """Writes a plan of ``width`` subtasks, and has the server execute each in its own number of tokens."""

    manifest = None
    width = 12
    tokens = 50

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the plan, or the server's completion."""
        text = request.context.own_text
        if text.startswith(HEADER) and request.max_tokens:
            number = int(text.partition(".")[2].partition(">")[0])
            most = self.tokens * (10 + number) // 10
            request = replace(request, max_tokens=most, stop_ids=frozenset(), stop_texts=())
        elif request.max_tokens and "</Plan_1>" not in request.context.text:
            numbers = range(1, self.width + 1)
            plan = "".join(f"<prompt_1.{number}>48+{number}</prompt_1.{number}>\n" for number in numbers)
            yield Chunk(await self.encode(plan), plan, Finish("stop", None, len(request.context), 0))
            return
        async with aclosing(super().complete(request)) as chunks:
            async for chunk in chunks:
                yield chunk


class After(Staggered, Unshared):
    """The same, and nothing is computed ahead."""


@dataclass(frozen=True)
class Wait:
    """What the answer's first token waited for."""

    first_token: float
    computed: int
    run: float


async def wait(engine: SGLangEngine) -> Wait:
    """Run once."""
    sprint = Sprint(engine, dialect="tags", sampling=GREEDY, limits=Limits(stages=2, plan_tokens=16, answer_tokens=16))
    last = first = 0.0
    async with sprint.stream("48+24=72\n" * 20) as events:
        async for event in events:
            if isinstance(event, ExecutionFinished):
                last = event.at
            elif isinstance(event, PlannerWrote) and event.stage == 2:
                first = first or event.at
            elif isinstance(event, StageFinished) and event.stage.number == 2:
                usage = event.stage.usage.total
                return Wait(first - last, usage.prompt_tokens - usage.cached_tokens, event.at)
    raise AssertionError("a run of two stages ends with the second")


async def compare(options: argparse.Namespace) -> None:
    """Print the table."""
    settings = {"tokenizer": options.model, "extra": {"sampling_params": {"ignore_eos": True}}}
    async with (
        served(options) as server,
        Staggered(server.url, **settings) as ahead,
        After(server.url, **settings) as after,
    ):
        waits: dict[str, list[Wait]] = {"ahead": [], "after": []}
        for _ in range(options.rounds):
            for name, engine in (("ahead", ahead), ("after", after)):
                engine.width, engine.tokens = options.width, options.tokens
                (await server.client.post("/flush_cache")).raise_for_status()
                waits[name].append(await wait(engine))
    print("| way | first token after the join, ms | computed by its request | run, ms |\n|---|---:|---:|---:|")
    for name, found in waits.items():
        first, whole = (1000 * median(getattr(one, field) for one in found) for field in ("first_token", "run"))
        print(f"| {name} | {first:.0f} | {median(one.computed for one in found):.0f} | {whole:.0f} |")


def main() -> None:
    """Read the options and print the table."""
    options = parser(__doc__)
    options.add_argument("--width", type=int, default=12)
    options.add_argument("--tokens", type=int, default=50, help="of the shortest execution")
    asyncio.run(compare(options.parse_args()))


if __name__ == "__main__":
    main()
