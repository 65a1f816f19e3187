"""Watch sprint-nano, the model that comes with the library, plan and solve a Countdown problem.

Each line is printed as soon as its event arrives: executions start while the planner is still writing.

    python examples/countdown.py
    python examples/countdown.py "Use 25, 7, 3 to make 46."
"""

import asyncio
import sys
from contextlib import aclosing

from sprint_agents import Engine, Run, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.events import ExecutionFinished, RunFinished, SubtaskStarted
from sprint_agents.nano import nano_path


async def main(engine: Engine | None = None, *, task: str = "countdown 4 9 24 37") -> Run | None:
    """Solve one task, print its events, and return the run."""
    run: Run | None = None
    async with aclosing(engine or LocalEngine(nano_path())) as opened, Sprint(opened).stream(task) as events:
        async for event in events:
            match event:
                case SubtaskStarted():
                    print(f"{event.stage}.{event.number} starts: {event.prompt}")
                case ExecutionFinished():
                    lines = event.execution.text.strip().splitlines()
                    print(f"{event.stage}.{event.execution.number} ends after {len(lines)} lines")
                case RunFinished():
                    run = event.run
                case _:
                    pass
    if run:
        print(f"{run.answer} ({'right' if run.verified else 'wrong'})")
        print(f"{run.usage.sequential_tokens} tokens in sequence, {run.usage.total_tokens} in total")
    return run


if __name__ == "__main__":
    asyncio.run(main(task=" ".join(sys.argv[1:]) or "countdown 4 9 24 37"))
