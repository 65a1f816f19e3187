"""Record the runs of sprint-nano that ``--engine fake`` replays, with the embedded engine (some minutes).

python tests/cli/record.py
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from sprint_agents import Limits, Sprint
from sprint_agents.cli.engines import RECORDED_RUNS, RecordedRun, context_key
from sprint_agents.cli.run import PROBLEMS
from sprint_agents.engine import Chunk, Request
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path

SHORT = ("countdown 3 7 25 46", "12 * 345", "multiply 28 347", "(12+7)*(9-4)-18")
LONG = ("countdown 3 7 25 50 79", "countdown 3 7 25 50 81", "countdown 1 1 2 90")
AT_ONCE = "countdown 5 39 37 71"  # answered rightly even where no plan is allowed
BATCH = tuple(f"countdown 3 7 25 {target}" for target in range(40, 52) if target != 46)


class RecordingEngine(LocalEngine):
    """Keeps the completion of every context."""

    completions: dict[str, str]

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Pass a completion on, and keep its text."""
        text = ""
        async for chunk in super().complete(request):
            text += chunk.text
            yield chunk
        self.completions[context_key(request.context.text)] = text


async def main() -> None:
    """Record all runs and write one line for each."""
    lines: list[str] = []

    async def record(task: str, **options: Any) -> None:
        engine.completions = {}
        # A replay may ask for executions that this run had cancelled, so they are recorded too.
        await Sprint(engine, settles=False, **options).run(task)
        run = await Sprint(engine, **options).run(task)
        print(f"{task} ({run.policy}): {run.answer[:80]!r}, {run.verified}", flush=True)
        recorded = RecordedRun(task=task, policy=run.policy, completions=engine.completions)
        lines.append(recorded.model_dump_json() + "\n")

    async with RecordingEngine(nano_path()) as engine:
        for task in (*SHORT, *LONG, *PROBLEMS, *BATCH):
            await record(task)
        for task in SHORT[:2]:
            await record(task, policy="sequential")
        await record(AT_ONCE, limits=Limits.of(engine.manifest).model_copy(update={"stages": 1}))
    RECORDED_RUNS.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
