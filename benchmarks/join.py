"""Measure how long the next plan's first token waits after a wide join, on a real SGLang server.

    make sglang && python benchmarks/join.py        # --quick for one round

``--width`` executors start together and write ``--tokens`` tokens each. Then the planner is asked for its answer.
"Ours" is the library, which computes results while later executions still run. "Without" leaves all of them to the
answer's request. Both take turns, ``--rounds`` times, each from an empty cache; figures are medians, and in parentheses
the least and the greatest of the rounds' own ratios.

- equal lengths: all executions end at the same time
- the last is late: in prompt order; it writes ``--times`` as many tokens
- the last waits: as for a tool, for ``--seconds``, while the server has nothing to do
- the first is late: the others are there, but they follow its result in the join

"Computed" is what the answer's request had to compute. The first token is timed from the end of the last execution. The
run is the whole time: on a server that computes one thing at a time, what is computed ahead delays who still generates.
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from radix import GREEDY, Server, Unshared, parser, served
from tokenizers import Tokenizer

from sprint_agents import Chunk, Limits, Request, Sprint
from sprint_agents.engine import Finish
from sprint_agents.engines import SGLangEngine
from sprint_agents.events import ExecutionFinished, PlannerWrote, StageFinished

HEADER = "\n<execution_"


@dataclass(frozen=True)
class Case:
    """A stage of ``width`` executions of ``tokens`` tokens.

    The one with the number ``late`` has ``times`` as many, or else ``waits`` for so many seconds at its end.
    """

    width: int
    tokens: int
    late: int = 0
    times: int = 1
    waits: float = 0.0


class Staged(SGLangEngine):
    """Writes the plan of a case, and has the server execute each subtask in its number of tokens."""

    manifest = None
    case: Case
    tags: Mapping[int, float] = {}

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the plan, or the server's completion."""
        text, waits = request.context.own_text, 0.0
        if text.startswith(HEADER) and request.max_tokens:
            late = int(text.partition(".")[2].partition(">")[0]) == self.case.late
            tokens, waits = self.case.tokens * (self.case.times if late else 1), self.case.waits if late else 0.0
            sampling = request.sampling.model_copy(update={"logit_bias": self.tags})  # the join would quote them
            request = replace(request, max_tokens=tokens, stop_ids=frozenset(), stop_texts=(), sampling=sampling)
        elif request.max_tokens and "</Plan_1>" not in request.context.text:
            numbers = range(1, self.case.width + 1)
            plan = "".join(f"<prompt_1.{number}>48+{number}</prompt_1.{number}>\n" for number in numbers)
            yield Chunk(await self.encode(plan), plan, Finish("stop", None, len(request.context), 0))
            return
        async with aclosing(super().complete(request)) as chunks:
            async for chunk in chunks:
                if chunk.finish is not None:
                    await asyncio.sleep(waits)
                yield chunk


class Without(Staged, Unshared):
    """The same, and nothing is computed ahead."""


@dataclass(frozen=True)
class Wait:
    """What the answer's first token waited for."""

    computed: float
    first_token: float
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
                return Wait(usage.prompt_tokens - usage.cached_tokens, 1000 * (first - last), 1000 * event.at)
    raise AssertionError("a run of two stages ends with the second")


def without_tags(model: Path) -> dict[int, float]:
    """Return a bias against the special tokens of a model."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    return {token: -100.0 for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}


async def measure(server: Server, ways: Sequence[Staged], case: Case, rounds: int) -> list[list[Wait]]:
    """Run a case by each way, in turns after a first run that does not count; return what each round waited for."""
    found: list[list[Wait]] = []
    for number in range(-1, rounds):
        waits: dict[Staged, Wait] = {}
        for engine in ways if number % 2 else ways[::-1]:
            engine.case = case
            (await server.client.post("/flush_cache")).raise_for_status()
            waits[engine] = await wait(engine)
        found.append([waits[engine] for engine in ways])
    return found[1:]


def cells(rounds: Sequence[Sequence[Wait]], field: str) -> str:
    """Write the medians of both ways, and of the ratios of the rounds."""
    pairs = [[getattr(one, field) for one in waits] for waits in rounds]
    ours, without = (median(values) for values in zip(*pairs, strict=True))
    ratios = sorted(ours / without for ours, without in pairs)
    return f"{ours:.0f} | {without:.0f} | {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


async def compare(options: argparse.Namespace) -> None:
    """Print the table."""
    case = Case(options.width, options.tokens)
    cases: Mapping[str, Case] = {
        "equal lengths": case,
        "the last is late": replace(case, late=options.width, times=options.times),
        "the last waits": replace(case, late=options.width, waits=options.seconds),
        "the first is late": replace(case, late=1, times=options.times),
    }
    settings = {"tokenizer": options.model, "extra": {"sampling_params": {"ignore_eos": True}}}
    rows: list[str] = []
    Staged.tags = without_tags(options.model)
    async with (
        served(options, *options.argument) as server,
        Staged(server.url, **settings) as ours,
        Without(server.url, **settings) as without,
    ):
        for name, each in cases.items():
            rounds = await measure(server, [ours, without], each, options.rounds)
            rows += [f"| {name} | {figure} | {cells(rounds, field)} |" for field, figure in FIGURES.items()]
    print("| case | figure | ours | without | ratio |\n|---|---|---:|---:|---:|", *rows, sep="\n")


FIGURES = {"computed": "computed, tokens", "first_token": "first token, ms", "run": "run, ms"}


def main() -> None:
    """Read the options and print the table."""
    options = parser(__doc__)
    options.add_argument("--width", type=int, default=12)
    options.add_argument("--tokens", type=int, default=100, help="of each execution")
    options.add_argument("--times", type=int, default=4, help="as many, of the one that is late")
    options.add_argument("--seconds", type=float, default=1.0, help="for which the last waits")
    options.add_argument("--argument", action="append", default=[], help="of the server, as --argument=--page-size=16")
    asyncio.run(compare(options.parse_args()))


if __name__ == "__main__":
    main()
