"""What the radix cache of a real SGLang server saves, and how prompts must be written for it.

    make sglang && python benchmarks/radix.py

First a fan-out: ``--width`` executors that write up to ``--tokens`` tokens each over a context of about ``--context``
tokens, from an empty cache. Then whole runs of the shipped model on held-out problems, all at once. Each way sends the
same texts to be gone on with, and each executor writes as many tokens, whatever the prompt; all ways take turns,
``--rounds`` times; medians. "Computed" is the server's own count of prompt tokens that were not in its cache;
"requests" counts commits too.

- shared: the library: a prefix is committed once, then the executors start on it
- not committed: the library, without commits: what is still being written, or read by nobody yet, is computed by each
- own prompts: as agent frameworks write them: each agent has a system prompt of its own, then plan and subtask, sent
  when the plan is finished
- s.fork: the fork of SGLang's own frontend, synchronised first, without which it commits nothing
- cache off: the library on a server with ``--disable-radix-cache``
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from sprint_agents import Answer, Capabilities, Chunk, Limits, Plan, Planning, Request, Sampling, Sprint, Stage, Step
from sprint_agents.engines import SGLangEngine, SGLangServer
from sprint_agents.nano import nano_path
from sprint_finetune.nano.problems import problems

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
    """A request as it was sent, and how many tokens came back."""

    ids: list[int]
    text: str
    max_tokens: int
    tokens: int = 0

    @property
    def executor(self) -> bool:
        """Whether an executor sent it."""
        return self.text.rpartition("\n<")[2].startswith("execution_")


class Noting(SGLangEngine):
    """An engine that notes the requests of each run, known by its question; commits are not noted."""

    def __init__(self, url: str, *, tokenizer: Path) -> None:
        super().__init__(url, tokenizer=tokenizer)
        self.runs: dict[str, list[Call]] = {}

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the completion and note it."""
        text = request.context.text
        call = Call(request.context.flatten(), text, request.max_tokens)
        if request.max_tokens:
            self.runs.setdefault(text.partition("\n")[0], []).append(call)
        async with aclosing(super().complete(request)) as chunks:
            async for chunk in chunks:
                call.tokens += len(chunk.ids)
                yield chunk


class Uncommitted(SGLangEngine):
    """An engine that the runtime takes for one that shares what still runs, so that it commits nothing."""

    @property
    def capabilities(self) -> Capabilities:
        """Say that what still runs is in the cache."""
        return replace(super().capabilities, caches_running=True)


@dataclass(frozen=True)
class Cost:
    """One measurement; tokens are the server's counts."""

    computed: int
    cached: int
    requests: int
    seconds: float


@dataclass
class Server:
    """A server that runs, and its own counts."""

    url: str
    client: httpx2.AsyncClient

    async def counts(self) -> tuple[int, int, int]:
        """Prompt tokens computed, prompt tokens cached, requests; of an idle server."""
        names = ("sglang:prompt_tokens_total", "sglang:cached_tokens_total", "sglang:num_requests_total")
        text = (await self.client.get("/metrics")).raise_for_status().text
        prompt, cached, requests = (
            round(sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))) for name in names
        )
        return prompt - cached, cached, requests

    async def measure(self, work: Callable[[], Awaitable[float | None]]) -> Cost:
        """Do ``work`` from an empty cache; it may say itself how long its heart took."""
        (await self.client.post("/flush_cache")).raise_for_status()
        before = await self.counts()
        started = time.perf_counter()
        own = await work()
        seconds = own or time.perf_counter() - started
        computed, cached, requests = (b - a for a, b in zip(before, await self.counts(), strict=True))
        return Cost(computed, cached, requests, seconds)

    async def generate(self, ids: Sequence[int], tokens: int) -> None:
        """Send one bare request for exactly so many tokens."""
        sampling = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}
        body = {"input_ids": list(ids), "sampling_params": sampling}
        (await self.client.post("/generate", json=body)).raise_for_status()

    async def replay(self, runs: Sequence[Sequence[Call]]) -> None:
        """Send noted requests again, bare: of each run the planner's one by one, a stage's executors together."""

        async def again(calls: Sequence[Call]) -> None:
            for _, together in itertools.groupby(calls, key=lambda call: call.executor):
                await asyncio.gather(*(self.generate(call.ids, call.tokens) for call in together))

        await asyncio.gather(*map(again, runs))


@asynccontextmanager
async def served(options: argparse.Namespace, *arguments: str) -> AsyncGenerator[Server]:
    """Start a server with its metrics on."""
    limits = httpx2.Limits(max_connections=None)
    async with (
        SGLangServer(
            options.model, python=options.python, arguments=("--enable-metrics", *arguments), start_timeout=1200
        ) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=600, trust_env=False, limits=limits) as client,
    ):
        yield Server(server.url, client)


def held_out(count: int, *, seed: int, numbers: int) -> list[str]:
    """Draw different problems that the model was not trained on."""
    drawn = (task.prompt for task, _ in problems(seed=seed, split="held_out", counts=(numbers,)))
    return list(itertools.islice(dict.fromkeys(itertools.islice(drawn, 4 * count)), count))


async def solve(engine: SGLangEngine, tasks: Sequence[str]) -> None:
    """Solve all tasks at once."""
    async with Sprint(engine, sampling=GREEDY).map(tasks, concurrency=len(tasks)) as runs:
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
    """SGLang's frontend in a process of its own, that does the fan-out of ``calls`` for each line it is sent."""

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
    """Rewrite each run's prompts as if planner and executors were agents with system prompts of their own."""

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
        SGLangEngine(server.url, tokenizer=options.model) as engine,
        Uncommitted(server.url, tokenizer=options.model) as uncommitted,
        Noting(server.url, tokenizer=options.model) as noting,
    ):
        await fan_out(noting, options)
        (branches,) = noting.runs.values()
        noting.runs.clear()
        await solve(noting, tasks)
        runs = list(noting.runs.values())
        stage_agents, run_agents = await as_agents(engine, [branches]), await as_agents(engine, runs)
        with Frontend(options.python, server.url, branches) as frontend:
            stage: dict[str, Callable[[], Awaitable[float | None]]] = {
                "shared": lambda: fan_out(engine, options),
                "not committed": lambda: fan_out(uncommitted, options),
                "own prompts": lambda: server.replay(stage_agents),
                "s.fork": frontend.fan_out,
            }
            whole: dict[str, Callable[[], Awaitable[float | None]]] = {
                "shared": lambda: solve(engine, tasks),
                "not committed": lambda: solve(uncommitted, tasks),
                "own prompts": lambda: server.replay(run_agents),
            }
            await frontend.fan_out()
            return await in_turns(server, stage, options.rounds), await in_turns(server, whole, options.rounds)


async def in_turns(
    server: Server, ways: dict[str, Callable[[], Awaitable[float | None]]], rounds: int
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
    """Make a parser of the options that all scripts with a server have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=Path, default=nano_path())
    made.add_argument("--python", type=Path, default=Path(".venv-sglang/bin/python"), help="of the server")
    made.add_argument("--rounds", type=int, default=3)
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
