"""Routers in front of two workers, through the same engine and one URL: SGLang's own, and its successor smg."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import httpx2
import pytest

from sprint_agents import Run, Sprint
from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.engines.guard import guarded
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer
from sprint_agents.errors import EngineRejected, EngineUnavailable
from sprint_agents.events import PlannerWrote, RunFinished

from .conftest import PYTHON, ROOT, START_TIMEOUT, free_port, started
from .counters import Counters
from .runs import GREEDY, assert_written_is_read_once, held_out, most_of_its_own

RUNS = 6


@pytest.fixture(scope="module")
def second(checkpoint: Path) -> Iterator[SGLangServer]:
    with started(checkpoint) as server:
        yield server


BY_KEY = ("--policy", "manual", "--assignment-mode", "min_group")
"""By the routing key of a run alone, without a look at its tokens."""
ROUTERS = {
    "smg": ("smg", "launch", *BY_KEY),
    "sglang_router": ("sglang_router.launch_router", *BY_KEY),
    "cache_aware": ("sglang_router.launch_router", "--policy", "cache_aware"),
}


@pytest.fixture(scope="module", params=["smg", "sglang_router"])
def router(request: pytest.FixtureRequest, server: SGLangServer, second: SGLangServer) -> Iterator[str]:
    port = free_port()
    command = [str(PYTHON), "-m", *ROUTERS[request.param], "--log-level", "error"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
    command += ["--worker-urls", server.url, second.url]
    pipe, ignored = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(guarded(command), stdin=pipe, stdout=ignored, stderr=ignored, start_new_session=True):
        url = f"http://127.0.0.1:{port}"
        asyncio.run(asyncio.wait_for(ready(url), START_TIMEOUT))
        yield url


async def ready(url: str) -> None:
    connects = httpx2.AsyncHTTPTransport(retries=10)  # waits longer each time
    async with httpx2.AsyncClient(base_url=url, transport=connects, timeout=START_TIMEOUT) as client:
        healthy: list[bool] = []
        while healthy != [True, True]:
            healthy = [worker["is_healthy"] for worker in (await client.get("/workers")).json()["workers"]]


@pytest.mark.parametrize("router", ["cache_aware"], indirect=True)
@pytest.mark.parametrize(("plan", "stays"), [(20, True), (120, False)])
def test_a_router_that_compares_prefixes_keeps_a_fork_of_which_it_knows_enough(
    router: str, server: SGLangServer, second: SGLangServer, checkpoint: Path, *, plan: int, stays: bool
) -> None:
    """It has seen the planner's prompt and not its plan, and moves a fork of which it knows less than 0.3.

    The first test here: the last one leaves one worker.
    """

    async def main() -> None:
        async with (
            Counters(server.url) as one,
            Counters(second.url) as two,
            SGLangEngine(router, tokenizer=checkpoint) as engine,
        ):
            text = f"Use 1, {plan}, 5 to make 72.\n" + " 8" * 20
            context = Context().extend(await engine.encode(text), text)
            longer = context.extend(await engine.encode(" 7" * plan), " 7" * plan)
            fork = Request(id="fork", context=longer, max_tokens=1, sampling=GREEDY)
            endless = Request(id="planner", context=context, max_tokens=3000, sampling=Sampling(temperature=1.0))
            async with aclosing(engine.complete(endless)) as planner:  # its worker is the busier one
                await anext(planner)
                while not (running := [(await each.load()).requests for each in (one, two)]).count(1):
                    pass  # the counters are late
                idle = (one, two)[running.index(0)]
                before = (await idle.load()).computed_prompt_tokens
                async for _ in engine.complete(fork):
                    pass
            await one.idle()
            await two.idle()
            moved = (await idle.load()).computed_prompt_tokens - before
            assert (moved == 0) is stays

    asyncio.run(main())


def test_forks_land_where_their_prefix_is(
    router: str, server: SGLangServer, second: SGLangServer, checkpoint: Path
) -> None:
    async def main() -> None:
        async with (
            Counters(server.url) as one,
            Counters(second.url) as two,
            SGLangEngine(router, tokenizer=checkpoint) as engine,
        ):
            await one.forget()
            await two.forget()
            before = [await one.load(), await two.load()]
            async with Sprint(engine, sampling=GREEDY, settles=False).map(
                held_out(RUNS, seed=6), concurrency=RUNS
            ) as finished:
                runs: list[Run] = [run async for run in finished]
            await one.idle()
            await two.idle()
            after = [await one.load(), await two.load()]
            assert [run.error for run in runs if run.error] == []
            # On the other worker a fork would have to compute all that it shares with the planner.
            assert_written_is_read_once(runs, most=await most_of_its_own(engine))
            work = [b.computed_prompt_tokens - a.computed_prompt_tokens for a, b in zip(before, after, strict=True)]
            assert sum(work) == sum(run.usage.recomputed_tokens for run in runs)
            assert min(work) > 0  # both had some

    asyncio.run(main())


def test_leaving_a_stream_ends_it_on_its_worker(
    router: str, server: SGLangServer, second: SGLangServer, checkpoint: Path
) -> None:
    """The router has no ``/abort_request``; it closes its own connection when the client's is closed."""

    async def main() -> None:
        async with (
            Counters(server.url) as one,
            Counters(second.url) as two,
            SGLangEngine(router, tokenizer=checkpoint) as engine,
        ):
            text = f"{held_out(1, seed=7)[0]}\n"
            context = Context().extend(await engine.encode(text), text)

            def request(name: str) -> Request:
                return Request(id=name, context=context, max_tokens=3000, sampling=Sampling(temperature=1.0))

            left = engine.complete(request("left"))
            await anext(left)
            await left.aclose()
            await one.idle()
            await two.idle()
            aborted = engine.complete(request("aborted"))
            await anext(aborted)
            await engine.abort("aborted")
            with pytest.raises(EngineUnavailable, match="aborted"):
                async for _ in aborted:
                    pass
            await one.idle()
            await two.idle()

    asyncio.run(main())


def test_a_router_is_not_sent_several_requests_together(router: str, checkpoint: Path) -> None:
    """It knows no lists, and the engine notices that it is not a server."""

    async def main() -> None:
        async with SGLangEngine(router, tokenizer=checkpoint) as engine:
            assert not (await engine.model()).direct

    asyncio.run(main())
    together = {"rid": ["one", "two"], "input_ids": [[5, 6], [7, 8]], "sampling_params": {"max_new_tokens": 1}}
    answer = httpx2.post(f"{router}/generate", json=together, timeout=START_TIMEOUT)
    assert answer.is_client_error, answer.text


def test_a_router_encodes_no_text(router: str) -> None:
    async def main() -> None:
        async with SGLangEngine(router) as engine:
            with pytest.raises(EngineRejected, match="tokenizer="):
                await engine.encode("a text")

    asyncio.run(main())


def named_in_compose(program: str) -> set[str]:
    compose = (ROOT / "environments" / "cluster" / "compose.yaml").read_text()
    (command,) = re.findall(rf"-m {program}\s(.*?)\n    \w", compose, re.DOTALL)
    named = set(re.findall(r"(?<=\s)--[a-z-]+", command))
    assert len(named) > 3
    return named


def test_the_compose_file_names_options_of_the_server(server: SGLangServer) -> None:
    settings = httpx2.get(f"{server.url}/server_info", timeout=START_TIMEOUT).json()
    assert named_in_compose("sglang.launch_server") <= {f"--{name.replace('_', '-')}" for name in settings}


def test_the_compose_file_names_options_of_the_router() -> None:
    command = [str(PYTHON), "-W", "ignore", "-m", "sglang_router.launch_router", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert named_in_compose("sglang_router.launch_router") <= set(re.findall(r"--[a-z-]+", told))


@pytest.mark.parametrize("router", ["sglang_router"], indirect=True)
def test_a_worker_that_is_killed_costs_a_retry_and_not_the_run(
    router: str, server: SGLangServer, second: SGLangServer, checkpoint: Path
) -> None:
    """The last test here: it leaves one worker."""

    async def until_killed(engine: SGLangEngine, task: str) -> Run | None:
        """Kill the second worker while the planner writes there; None if it writes on the first."""
        seen = 0
        async with Counters(second.url) as two, Sprint(engine, sampling=GREEDY).stream(task) as events:
            async for event in events:
                if isinstance(event, PlannerWrote):
                    seen += 1
                    if seen == 10 and not (await two.load()).requests:
                        return None
                    if seen == 10:
                        os.killpg(second.process.pid, signal.SIGKILL)
                if isinstance(event, RunFinished):
                    return event.run
        raise AssertionError("a run ends with an event")

    async def main() -> None:
        async with (
            SGLangEngine(router, tokenizer=checkpoint) as engine,
            SGLangEngine(server.url, tokenizer=checkpoint) as direct,
            Counters(server.url) as one,
        ):
            for task in held_out(20, seed=8):
                if run := await until_killed(engine, task):
                    break
            else:
                raise AssertionError("the router never used the second worker")
            assert not second.process.running
            # Greedily, the run is the one that it would have been.
            alone = await Sprint(direct, sampling=GREEDY).run(task)
            assert run.transcript == alone.transcript
            assert run.usage.failures == 0
            await one.idle()

    asyncio.run(main())
