"""The endpoint under load: streaming clients of which some leave, on FakeEngine.

    python benchmarks/endpoint.py

The first table is a load: ``--clients`` ask at the same time, ``--rounds`` times, and a tenth of them leave at a random
event. Afterwards no run may be left, and memory should be flat.

The second is what the endpoint adds to a request: CPU time of this process, in which server and client run together,
for a stream of the endpoint, for an application of starlette that sends the same pieces and nothing else, and for the
run alone. The endpoint's overhead is what is left of its time without the run's.
"""

import argparse
import asyncio
import gc
import random
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median
from time import process_time
from typing import Any

import httpx2
from instant.loopback import served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from sprint_agents import Sprint
from sprint_agents.testing import FakeEngine, Latency
from sprint_integrations.endpoint import Bounds, application

REPLIES = {
    "planner, stage 1": '{"subtasks": ["2 cats", "a hen", "3 ants", "a cow"]}',
    "executor": '{"result": "8"}',
    "planner": '{"answer": "40"}',
}
BODY = {"model": "legs", "messages": [{"role": "user", "content": "How many legs?"}], "stream": True}


@asynccontextmanager
async def connected(app: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    """Serve an application on loopback, and yield a client of it."""
    limits = httpx2.Limits(max_connections=None)
    async with served(app) as address, httpx2.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
        yield client


async def ask(client: httpx2.AsyncClient, *, leave: int | None = None) -> list[bytes]:
    """Read a stream, or only its first ``leave`` pieces."""
    pieces: list[bytes] = []
    async with client.stream("POST", "/v1/chat/completions", json=BODY) as reply:
        async for piece in reply.aiter_bytes():
            pieces.append(piece)
            if len(pieces) == leave:
                break
    return pieces


async def load(clients: int, rounds: int) -> None:
    """Print the first table."""
    sprint = Sprint(FakeEngine(REPLIES), dialect="json")
    app = application({"legs": sprint}, bounds=Bounds(concurrency=clients))
    chance = random.Random(0)
    print("| round | clients | left early | runs left | at the engine | memory, MiB |\n|---:|---:|---:|---:|---:|---:|")
    async with connected(app) as client:
        tracemalloc.start()
        for number in range(1, rounds + 1):
            sprint.engine = engine = FakeEngine(REPLIES, latency=Latency(token=0.002))  # each keeps all its requests
            leaves = [chance.randrange(1, 8) if chance.random() < 0.1 else None for _ in range(clients)]
            await asyncio.gather(*(ask(client, leave=leave) for leave in leaves))
            left = clients - leaves.count(None)
            for _ in range(1_000):  # what a client that leaves had asked for ends soon after
                running = (await client.get("/health")).json()["running"]
                if not running:
                    break
            gc.collect()
            memory = tracemalloc.get_traced_memory()[0] / 2**20
            row = (number, clients, left, running, engine.account().running, f"{memory:.1f}")
            print(f"| {' | '.join(map(str, row))} |", flush=True)
        tracemalloc.stop()


def echoing(pieces: list[bytes]) -> Starlette:
    """Make an application that reads the body, and sends these pieces."""

    async def echo(request: Request) -> StreamingResponse:
        await request.json()

        async def write() -> AsyncGenerator[bytes]:
            for piece in pieces:
                yield piece

        return StreamingResponse(write(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", echo, methods=["POST"])])


async def milliseconds(work: Callable[[], Awaitable[object]], *, repeats: int) -> float:
    """Measure the CPU time of one call."""
    started = process_time()
    for _ in range(repeats):
        await work()
    return (process_time() - started) / repeats * 1000


async def overhead(repeats: int, rounds: int) -> None:
    """Print the second table."""
    sprint = Sprint(FakeEngine(REPLIES), dialect="json")
    app = application({"legs": sprint})
    rows: list[tuple[float, float, float]] = []
    async with connected(app) as ours:
        text = b"".join(await ask(ours))
        pieces = [part + b"\n\n" for part in text.split(b"\n\n") if part]
        async with connected(echoing(pieces)) as echo:
            for _ in range(rounds):  # in turns, so that noise meets all three
                full = await milliseconds(lambda: ask(ours), repeats=repeats)
                bare = await milliseconds(lambda: ask(echo), repeats=repeats)
                run = await milliseconds(lambda: sprint.run("How many legs?"), repeats=repeats)
                rows.append((full, bare, run))
    endpoint, bare, run = (median(column) for column in zip(*rows, strict=True))
    table = {
        "endpoint": endpoint,
        "the run alone": run,
        f"echo of the same {len(pieces)} pieces": bare,
        "overhead, times echo": (endpoint - run) / bare,
    }
    print("\n| | CPU ms a request |\n|---|---:|")
    for name, value in table.items():
        print(f"| {name} | {value:.2f} |")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    asyncio.run(load(options.clients, options.rounds))
    asyncio.run(overhead(options.repeats, options.rounds))


if __name__ == "__main__":
    main()
