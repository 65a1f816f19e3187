"""The same fan-out in three ways, for SGLang's own interpreter: ``bridged.py CHECKPOINT URL`` prints what came out."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import sglang

from sprint_agents import Executor, Sampling, Sprint, State, Stops
from sprint_agents.context import Context
from sprint_agents.engine import Engine, Request
from sprint_agents.engines import SGLangEngine
from sprint_agents.errors import EngineRejected, EngineUnavailable, InvalidRequest
from sprint_agents.markup import markup
from sprint_integrations.sglang import InProcessEngine, execute

TASK = "Use 48, 24, 12, 2 to make 37."
PREFIX = f"{TASK}\n<Plan_1>\nSums and differences first:\n<prompt_1.1>48+24</prompt_1.1>"
TEXTS = [f"\n<execution_1.{number}>\n" for number in range(1, 5)]
STOP = "</execution_"
TOKENS = 24
GREEDY = Sampling(temperature=0)


async def fork(engine: Engine) -> dict[str, Any]:
    """Our own fork over an engine."""
    state = State(engine, sampling=GREEDY)
    await state.append(markup(PREFIX))
    await state.branch().generate(max_tokens=0)
    stops = await Stops.resolve(engine, (STOP,))

    async def one(branch: State, text: str) -> list[Any]:
        await branch.append(markup(text))
        done = await branch.generate(max_tokens=TOKENS, stops=stops)
        assert done.finish
        return [done.text.removesuffix(STOP), done.finish.cached_tokens >= len(state.context)]

    async with state.fork(len(TEXTS)) as forked:
        for branch, text in zip(forked.branches, TEXTS, strict=True):
            forked.start(one(branch, text))
        found = await forked.gather()
    return {"texts": [text for text, _ in found], "cached": all(hit for _, hit in found)}


async def frontend(url: str, prefix_tokens: int) -> dict[str, Any]:
    """SGLang's own fork."""
    sglang.set_default_backend(sglang.RuntimeEndpoint(url))
    found: list[Any] = []
    failed: list[str] = []

    @sglang.function
    def program(s: Any) -> None:
        s += PREFIX
        executed = execute(s, TEXTS, Executor(str), max_tokens=TOKENS, sampling=GREEDY, stop=[STOP])
        found.extend(asyncio.run(executed))
        # What the server refuses is one branch's failure, and says so.
        broken = asyncio.run(execute(s, ["x" * 40000, TEXTS[0]], Executor(str), max_tokens=2, sampling=GREEDY))
        failed.extend("failed" if execution.failure else "succeeded" for execution in broken)

    await asyncio.to_thread(program.run)
    return {
        "texts": [execution.text for execution in found],
        "cached": all(execution.usage.cached_tokens >= prefix_tokens for execution in found),
        "failed": failed,
    }


async def raised(work: Callable[[], Awaitable[Any]]) -> str:
    try:
        await work()
    except (EngineRejected, EngineUnavailable, InvalidRequest) as error:
        return type(error).__name__
    return "nothing"


async def troubles(engine: InProcessEngine, offline: Any) -> dict[str, Any]:
    """Leave a stream, abort another, and send an invalid id."""
    state = State(engine, sampling=Sampling(temperature=1.0))
    await state.append(markup(PREFIX))
    async with state.stream(max_tokens=2000) as left:
        await anext(left)

    async def aborted() -> None:
        request = Request(id="gone", context=state.context, max_tokens=2000, sampling=Sampling(temperature=1.0))
        async for _ in engine.complete(request):
            await engine.abort("gone")

    async def outside() -> None:
        wrong = State(engine, Context().extend([10**6], "?"))
        await wrong.generate(max_tokens=1)

    return {"aborted": await raised(aborted), "outside": await raised(outside), "running": len(engine._running)}


def main(checkpoint: Path, url: str) -> None:
    """Print all ways' results as one JSON object."""
    settings = {"device": "cpu", "dtype": "float32", "max_total_tokens": 16384, "sleep_on_idle": True}
    offline = sglang.Engine(model_path=str(checkpoint), log_level="error", **settings)
    try:
        offline.loop.run_until_complete(compare(offline, checkpoint, url))
    finally:
        offline.shutdown()


async def compare(offline: Any, checkpoint: Path, url: str) -> None:
    engine = InProcessEngine(offline, checkpoint)
    results: dict[str, Any] = {"in process": await fork(engine)}
    results["run"] = (await Sprint(engine, sampling=GREEDY).run(TASK)).transcript
    results["troubles"] = await troubles(engine, offline)
    results["frontend"] = await frontend(url, len(await engine.encode(markup(PREFIX))))
    async with SGLangEngine(url, tokenizer=checkpoint) as served:
        results["served"] = await fork(served)
        results["run served"] = (await Sprint(served, sampling=GREEDY).run(TASK)).transcript
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
