"""Measure what a run costs over HTTP: an engine and the library against bare httpx2 and pydantic.

    python benchmarks/clients.py

A server in another process answers at once, event by event. The model writes a plan, typed results at the same time and
a typed answer, as JSON. "Bare" requests the same completions one by one, by httpx2, reads the events of each answer,
and validates the text. Both take turns, ``--rounds`` times. Figures are medians of the CPU time of this process.

The second table is an executor's request of 86 tokens alone, ``AT_ONCE`` of them at the same time: streamed token by
token, as it is for listeners, and whole, as a run without listeners requests it (``Request.whole``). Whole completions
of one run that are requested together are one request to SGLang; "one by one" are those of different runs. With
``--sglang .venv-sglang/bin/python`` it is also measured on a real SGLang server with sprint-nano, ``AT_ONCE_SERVED`` at
the same time.
"""

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx2
from instant.engines import LONG_RESULT, Answered, Finding, Parts, Report, Result
from pydantic import JsonValue

from sprint_agents import Context, Engine, Executor, Limits, Planner, Request, Sampling, Sprint
from sprint_agents.engine import Hints
from sprint_agents.engines import OpenAIEngine, SGLangEngine, SGLangServer
from sprint_agents.markup import markup
from sprint_agents.nano import nano_path

AT_ONCE, AT_ONCE_SERVED = 256, 32


@contextmanager
def server(width: int) -> Generator[str]:
    """Start the server, and return its URL."""
    command = [sys.executable, "-m", "instant.server", str(width)]
    place = Path(__file__).parent
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=place) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()


async def streamed(client: httpx2.AsyncClient, path: str, body: str) -> str:
    """Send a request and return the text of its answer, in events or whole."""
    texts: list[str] = []
    async with client.stream("POST", path, content=body, headers={"content-type": "application/json"}) as response:
        if response.headers["content-type"] == "application/json":
            return json.loads(await response.aread())["choices"][0]["message"]["content"]
        async for event in httpx2.EventSource(response):
            if event.data == "[DONE]":
                break
            found = json.loads(event.data)
            if path == "/generate":
                texts.append(found["text"])
            elif found["choices"]:
                texts.append(found["choices"][0]["delta"].get("content", ""))
    return "".join(texts)


async def bare(client: httpx2.AsyncClient, path: str, bodies: list[str]) -> None:
    """Send the requests of a run, those of the executors at the same time."""
    plan, *executions, answer = bodies

    async def subtask(body: str) -> Finding:
        return Result.model_validate_json(await streamed(client, path, body)).result

    parts = Parts.model_validate_json(await streamed(client, path, plan))
    found = await asyncio.gather(*map(subtask, executions))
    assert Answered.model_validate_json(await streamed(client, path, answer)).answer.text
    assert len(found) == len(parts.subtasks)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return the CPU seconds of ``work``."""
    gc.collect()
    started = time.process_time()
    await work()
    return time.process_time() - started


async def measure(engine: Engine, path: str, url: str, width: int, rounds: int) -> tuple[float, float, float]:
    """Return the CPU seconds of a run, bare and by the library, and the ratio of the two."""
    limits = Limits(plan_tokens=10**6)
    sprint = Sprint(engine, planner=Planner(Report), executor=Executor(Finding), dialect="json", limits=limits)

    async def run() -> None:
        result = await sprint.run("t")
        assert len(result.stages[0].results) == width

    async with httpx2.AsyncClient(base_url=url, limits=httpx2.Limits(max_connections=1024)) as client:
        await run()
        await client.get("/recorded")
        await run()
        # A commit of the prefix, a request for no tokens, is part of what the library costs.
        sent: list[str] = (await client.get("/recorded")).json()
        bodies = [body for body in sent if json.loads(body).get("sampling_params", {}).get("max_new_tokens") != 0]
        assert len(bodies) == width + 2, len(bodies)
        await bare(client, path, bodies)
        measured = [(await timed(lambda: bare(client, path, bodies)), await timed(run)) for _ in range(rounds)]
    ratio = statistics.median(ours / least for least, ours in measured)
    return statistics.median(row[0] for row in measured), statistics.median(row[1] for row in measured), ratio


def at_once(work: Callable[[], Awaitable[object]], count: int = AT_ONCE) -> Callable[[], Awaitable[object]]:
    """Return a function that does ``count`` of the same at the same time."""
    return lambda: asyncio.gather(*(work() for _ in range(count)))


async def in_turns(ways: Sequence[Callable[[], Awaitable[object]]], rounds: int, *, requests: int) -> list[float]:
    """Return the CPU milliseconds of a request in each way."""
    for work in ways:
        await work()
    measured = [[await timed(work) for work in ways] for _ in range(rounds)]
    return [statistics.median(column) * 1e3 / requests for column in zip(*measured, strict=True)]


def completions(engine: Engine, context: Context, tokens: int) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the ways to request a completion by ``engine``, each of which reads it and checks its length."""
    numbers, sampling = iter(range(10**9)), Sampling(temperature=0)

    async def complete(*, whole: bool, together: bool = False) -> None:
        name = f"{next(numbers):09d}"
        hints = Hints(run="the same" if together else name)
        request = Request(id=name, context=context, max_tokens=tokens, sampling=sampling, whole=whole, hints=hints)
        assert sum([len(chunk.ids) async for chunk in engine.complete(request)]) >= tokens

    return {
        "streamed": partial(complete, whole=False),
        "whole, one by one": partial(complete, whole=True),
        "whole, together": partial(complete, whole=True, together=True),
    }


async def measure_requests(engine: Engine, path: str, url: str, rounds: int) -> list[float]:
    """Return the CPU milliseconds of a request: by bare httpx2 streamed and whole, and in each way of the engine."""
    context = Context().extend(await engine.encode(markup("long")), markup("long"))
    found = completions(engine, context, len(LONG_RESULT.split()))
    async with httpx2.AsyncClient(base_url=url, limits=httpx2.Limits(max_connections=1024)) as client:
        await client.get("/recorded")
        await found["streamed"]()
        await found["whole, one by one"]()
        bodies: list[str] = (await client.get("/recorded")).json()
        ways = [partial(streamed, client, path, body) for body in bodies] + [*found.values()]
        return await in_turns([at_once(way) for way in ways], rounds, requests=AT_ONCE)


async def measure_served(python: Path, rounds: int) -> dict[str, float]:
    """Return the CPU milliseconds of a request on a real server, in each way of the engine."""
    checkpoint, task = nano_path(), "Use 50, 25, 7, 3 to make 81.\n"
    async with SGLangServer(checkpoint, python=python) as server:
        extra: dict[str, JsonValue] = {"sampling_params": {"ignore_eos": True}}
        async with SGLangEngine(server.url, tokenizer=checkpoint, extra=extra) as engine:
            context = Context().extend(await engine.encode(task), task)
            ways = completions(engine, context, len(LONG_RESULT.split()))
            costs = await in_turns(
                [at_once(way, AT_ONCE_SERVED) for way in ways.values()], rounds, requests=AT_ONCE_SERVED
            )
            return dict(zip(ways, costs, strict=True))


def sides(url: str) -> list[tuple[str, Engine, str]]:
    """Return the engines with their names and paths."""
    return [
        ("SGLangEngine", SGLangEngine(url), "/generate"),
        ("OpenAIEngine", OpenAIEngine(f"{url}/v1", model="instant", server="vllm"), "/v1/chat/completions"),
    ]


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sglang", type=Path, help="the interpreter of the environment with SGLang")
    options = parser.parse_args()
    rounds = options.rounds
    print("| engine | subtasks | bare httpx2, ms per request | sprint-agents | ratio |\n|---|---:|---:|---:|---:|")
    for width in (8, 64, 512):
        with server(width) as url:
            for name, engine, path in sides(url):
                async with engine:  # type: ignore[attr-defined]
                    least, ours, ratio = await measure(engine, path, url, width, rounds)
                per_request = 1e3 / (width + 2)
                print(f"| {name} | {width} | {least * per_request:.2f} | {ours * per_request:.2f} | {ratio:.2f} |")
    tokens = len(LONG_RESULT.split())
    columns = ["bare httpx2, streamed", "bare httpx2, whole", "streamed", "whole, one by one", "whole, together"]
    print(f"\n| engine | {' | '.join(columns)} | tokens/s of a client core |\n|---|{'---:|' * 6}")
    with server(8) as url:
        for name, engine, path in sides(url):
            async with engine:  # type: ignore[attr-defined]
                row = await measure_requests(engine, path, url, rounds)
            print(f"| {name} | {' | '.join(f'{cost:.2f} ms' for cost in row)} | {tokens * 1e3 / row[-1]:,.0f} |")

    if options.sglang:
        costs = await measure_served(options.sglang, rounds)
        print("\nA real SGLang server:", ", ".join(f"{cost:.2f} ms {way}" for way, cost in costs.items()))


if __name__ == "__main__":
    asyncio.run(main())
