"""Measure the savings of a real SGLang server's radix cache, with prompts written in several ways.

    make sglang && python benchmarks/radix.py        # --quick for one round

The first table is a fan-out from an empty cache: ``--width`` executors write up to ``--tokens`` tokens each over a
context of about ``--context`` tokens. The second is whole runs of the shipped model on held-out problems, all at once.
All ways send the same texts, and their executors write the same number of tokens. They take turns, ``--rounds`` times;
figures are medians. "Computed" is the server's count of prompt tokens that were not in its cache; "requests" includes
commits.

- shared: the library; one executor computes a prefix, then the others start on it
- always: the library as it once was; a request for no tokens reads whenever an executor starts
- never: the library without either; each executor computes text that is still being written or was never read
- own prompts: agents as many frameworks write them; each has its own system prompt, then plan and subtask, sent when
  the plan is finished
- s.fork: the fork of SGLang's frontend, after a sync, without which it commits nothing
- cache off: the library on a server with ``--disable-radix-cache``
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from sprint_agents import Answer, Capabilities, Chunk, Limits, Plan, Planning, Request, Sampling, Sprint, Stage, Step
from sprint_agents.engines import SGLangEngine, SGLangServer
from sprint_agents.nano import nano_path
from sprint_finetune.nano.countdown import problems

GREEDY = Sampling(temperature=0)
TASK = "Use 48, 24, 12, 2 to make 37."
HEADER = "\n<execution_"
EXECUTOR = "You are agent {number} of a team. Carry out your subtask and nothing else, and report the result.\n"
PLANNER = "You lead a team of agents. Plan, give each a subtask, read their reports, and answer.\n"

# Runs in the server's environment, where SGLang's frontend is; prints the seconds of each round of the fan-out.
FRONTEND = """
import json, sys, time
import sglang
load = json.load(open(sys.argv[1]))
sglang.set_default_backend(sglang.RuntimeEndpoint(load["url"]))

@sglang.function
def program(s):
    s += load["prefix"]
    s.sync()
    forks = s.fork(len(load["branches"]))
    for fork, (text, tokens) in zip(forks, load["branches"]):
        fork += text + sglang.gen("out", max_tokens=tokens, temperature=0.0, ignore_eos=True)
    for fork in forks:
        fork["out"]
    forks.join()

for line in sys.stdin:
    started = time.perf_counter()
    program.run()
    print(time.perf_counter() - started, flush=True)
"""


@dataclass
class Call:
    """A request, and the number of tokens that it generated."""

    ids: list[int]
    text: str
    max_tokens: int
    tokens: int = 0

    @property
    def executor(self) -> bool:
        """Say whether an executor sent it."""
        return self.text.rpartition("\n<")[2].startswith("execution_")


class Noting(SGLangEngine):
    """An engine that records the requests of each run by its question, without commits."""

    def __init__(self, url: str, *, tokenizer: Path) -> None:
        super().__init__(url, tokenizer=tokenizer)
        self.runs: dict[str, list[Call]] = {}

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the completion and record it."""
        text = request.context.text
        call = Call(request.context.flatten(), text, request.max_tokens)
        if request.max_tokens:
            self.runs.setdefault(text.partition("\n")[0], []).append(call)
        async with aclosing(super().complete(request)) as chunks:
            async for chunk in chunks:
                call.tokens += len(chunk.ids)
                yield chunk


class Unshared(SGLangEngine):
    """An engine that hides how it caches, so that the runtime lets no executor wait for another."""

    @property
    def capabilities(self) -> Capabilities:
        """Say that what still runs is in the cache."""
        return replace(super().capabilities, caches_running=True, caches_contexts=False)


class Committed(SGLangEngine):
    """An engine that hides that a request's context is in the cache with its first token, so the runtime commits."""

    @property
    def capabilities(self) -> Capabilities:
        """Say that only what has ended is in the cache."""
        return replace(super().capabilities, caches_contexts=False)


WAYS: dict[str, type[SGLangEngine]] = {"shared": SGLangEngine, "always": Committed, "never": Unshared}
"""Who computes what executors share: one of them, a request whenever one starts, or each."""


@asynccontextmanager
async def in_each_way(url: str, tokenizer: Path) -> AsyncGenerator[dict[str, SGLangEngine]]:
    """Open an engine for each of ``WAYS``."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(way(url, tokenizer=tokenizer)) for name, way in WAYS.items()}


@dataclass(frozen=True)
class Cost:
    """One measurement, with the server's own counts of tokens."""

    computed: int
    cached: int
    requests: int
    seconds: float


@dataclass
class Server:
    """A running server and its counters."""

    url: str
    client: httpx2.AsyncClient

    async def counts(self) -> tuple[int, int, int]:
        """Read the computed and cached prompt tokens and the requests of an idle server."""
        names = ("sglang:prompt_tokens_total", "sglang:cached_tokens_total", "sglang:num_requests_total")
        text = (await self.client.get("/metrics")).raise_for_status().text
        prompt, cached, requests = (
            round(sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))) for name in names
        )
        return prompt - cached, cached, requests

    async def measure(self, work: Callable[[], Awaitable[float | None]]) -> Cost:
        """Measure ``work`` from an empty cache; it may return its own duration."""
        (await self.client.post("/flush_cache")).raise_for_status()
        before = await self.counts()
        started = time.perf_counter()
        own = await work()
        seconds = own or time.perf_counter() - started
        computed, cached, requests = (b - a for a, b in zip(before, await self.counts(), strict=True))
        return Cost(computed, cached, requests, seconds)

    async def generate(self, ids: Sequence[int], tokens: int) -> None:
        """Send one bare request for exactly this number of tokens."""
        sampling = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}
        body = {"input_ids": list(ids), "sampling_params": sampling}
        (await self.client.post("/generate", json=body)).raise_for_status()

    async def replay(self, runs: Sequence[Sequence[Call]]) -> None:
        """Send recorded requests again without the library: the planner's one by one, a stage's executors together."""

        async def again(calls: Sequence[Call]) -> None:
            for _, together in itertools.groupby(calls, key=lambda call: call.executor):
                await asyncio.gather(*(self.generate(call.ids, call.tokens) for call in together))

        await asyncio.gather(*map(again, runs))


@asynccontextmanager
async def served(
    options: argparse.Namespace, *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[Server]:
    """Start a server with metrics enabled."""
    limits = httpx2.Limits(max_connections=None)
    async with (
        SGLangServer(
            options.model,
            python=options.python,
            arguments=("--enable-metrics", *arguments),
            environment=environment,
            start_timeout=1200,
        ) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=600, trust_env=False, limits=limits) as client,
    ):
        yield Server(server.url, client)


def held_out(count: int, *, seed: int, numbers: int) -> list[str]:
    """Draw distinct problems that the model was not trained on."""
    drawn = (task.prompt for task, _ in problems(seed=seed, split="held_out", counts=(numbers,)))
    return list(itertools.islice(dict.fromkeys(itertools.islice(drawn, 4 * count)), count))


async def solve(engine: SGLangEngine, tasks: Sequence[str]) -> None:
    """Solve all tasks at once."""
    sprint = Sprint(engine, sampling=GREEDY, settles=False)  # with early ends, the slower way would write more
    async with sprint.map(tasks, concurrency=len(tasks)) as runs:
        assert [run.error async for run in runs if run.error] == []


async def fan_out(engine: SGLangEngine, options: argparse.Namespace) -> None:
    """Run the fan-out as a stage of the library."""

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
        prompts = (f"48+{number}" for number in range(1, options.width + 1))
        yield Plan.of(*prompts, text="48+24=72\n" * (options.context // 6))
        yield Answer(value="done")

    limits = Limits(execution_tokens=options.tokens)
    run = await Sprint(engine, policy=policy, sampling=GREEDY, limits=limits).run(TASK)
    assert not run.stages[0].failures


class Frontend:
    """SGLang's frontend in another process, which runs the fan-out of ``calls`` for each line that it reads."""

    def __init__(self, python: Path, url: str, calls: Sequence[Call]) -> None:
        # What all share ends where the last executor's header begins.
        prefix = max((call.text.rpartition(HEADER)[0] for call in calls), key=len)
        branches = [(HEADER + call.text.rpartition(HEADER)[2], call.tokens) for call in calls]
        self._load = {"url": url, "prefix": prefix, "branches": branches}
        self._python = python

    def __enter__(self) -> "Frontend":
        self._folder = tempfile.TemporaryDirectory()
        # The frontend reads a program's source, so it must be in a file.
        program, load = Path(self._folder.name) / "program.py", Path(self._folder.name) / "load.json"
        program.write_text(FRONTEND)
        load.write_text(json.dumps(self._load))
        command = [str(self._python), "-W", "ignore", str(program), str(load)]
        pipe, ignored = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=ignored, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._folder.cleanup()

    async def fan_out(self) -> float:
        """Return the seconds that the fan-out took in the other process."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None

        def ask() -> float:
            stdin.write("\n")
            stdin.flush()
            return float(stdout.readline())

        return await asyncio.to_thread(ask)


async def as_agents(engine: SGLangEngine, runs: Sequence[Sequence[Call]]) -> list[list[Call]]:
    """Rewrite each run's prompts as if planner and executors were agents with their own system prompts."""

    async def one(call: Call) -> Call:
        number = call.text.rpartition(".")[2].rpartition(">")[0] if call.executor else ""
        system = EXECUTOR.format(number=number) if call.executor else PLANNER
        return Call(await engine.encode(system) + call.ids, call.text, call.max_tokens, call.tokens)

    return [[await one(call) for call in calls] for calls in runs]


def row(name: str, costs: Sequence[Cost]) -> str:
    """Write one line of a table."""
    computed, cached, requests = (
        round(median(getattr(cost, field) for cost in costs)) for field in ("computed", "cached", "requests")
    )
    return f"| {name} | {computed} | {cached} | {requests} | {1000 * median(cost.seconds for cost in costs):.0f} |"


def table(title: str, costs: dict[str, list[Cost]]) -> Iterator[str]:
    """Write a table."""
    yield f"\n{title}\n\n| way | prompt tokens computed | cached | requests | wall, ms |\n|---|---:|---:|---:|---:|"
    yield from (row(name, found) for name, found in costs.items())


async def with_cache(options: argparse.Namespace, tasks: Sequence[str]) -> tuple[dict[str, list[Cost]], ...]:
    """Measure all ways but the last, in turns, on one server."""
    async with (
        served(options) as server,
        in_each_way(server.url, options.model) as engines,
        Noting(server.url, tokenizer=options.model) as noting,
    ):
        await fan_out(noting, options)
        (branches,) = noting.runs.values()
        noting.runs.clear()
        await solve(noting, tasks)
        runs = list(noting.runs.values())
        stage_agents, run_agents = await as_agents(noting, [branches]), await as_agents(noting, runs)
        with Frontend(options.python, server.url, branches) as frontend:
            stage: dict[str, Callable[[], Awaitable[float | None]]] = {
                **{name: partial(fan_out, engine, options) for name, engine in engines.items()},
                "own prompts": lambda: server.replay(stage_agents),
                "s.fork": frontend.fan_out,
            }
            whole: dict[str, Callable[[], Awaitable[float | None]]] = {
                **{name: partial(solve, engine, tasks) for name, engine in engines.items()},
                "own prompts": lambda: server.replay(run_agents),
            }
            await frontend.fan_out()
            return await in_turns(server, stage, options.rounds), await in_turns(server, whole, options.rounds)


async def in_turns(
    server: Server, ways: Mapping[str, Callable[[], Awaitable[float | None]]], rounds: int
) -> dict[str, list[Cost]]:
    """Measure each way once a round."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            costs[name].append(await server.measure(way))
    return costs


async def compare(options: argparse.Namespace) -> None:
    """Print both tables."""
    tasks = held_out(options.problems, seed=1, numbers=4)
    stage, whole = await with_cache(options, tasks)
    async with (
        served(options, "--disable-radix-cache") as server,
        SGLangEngine(server.url, tokenizer=options.model) as engine,
    ):
        await fan_out(engine, options)
        stage |= await in_turns(server, {"cache off": lambda: fan_out(engine, options)}, options.rounds)
        whole |= await in_turns(server, {"cache off": lambda: solve(engine, tasks)}, options.rounds)
    print(*table(f"{options.width} executors over one context", stage), sep="\n")
    print(*table(f"{len(tasks)} whole runs", whole), sep="\n")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the options of all scripts that start a server."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=Path, default=nano_path())
    made.add_argument("--python", type=Path, default=Path(".venv-sglang/bin/python"), help="of the server")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--quick", dest="rounds", action="store_const", const=1, help="one round")
    return made


def main() -> None:
    """Read the options and print the tables."""
    options = parser(__doc__)
    options.add_argument("--width", type=int, default=8)
    options.add_argument("--context", type=int, default=1000, help="tokens, roughly")
    options.add_argument("--tokens", type=int, default=32, help="that each executor of the fan-out may write")
    options.add_argument("--problems", type=int, default=4)
    asyncio.run(compare(options.parse_args()))


if __name__ == "__main__":
    main()
