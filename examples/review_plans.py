"""See each plan before it is carried out, and drop the subtasks that you do not want.

The run waits for you in ``review``, which may take its time: it runs in a thread. Here sprint-nano plans.

    python examples/review_plans.py
    python examples/review_plans.py "Use 24, 9, 4 to make 37."
"""

import asyncio
import sys
from contextlib import aclosing

from sprint_agents import Engine, Plan, Run, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path

TASK = "Use 23, 13, 6, 6 to make 96."


def review(plan: Plan) -> Plan | None:
    """Show a plan, and return it without the subtasks whose numbers are entered."""
    for subtask in plan.subtasks:
        print(f"  {subtask.number}. {subtask.prompt}")
    try:
        dropped = {int(number) for number in input("Numbers to drop, or nothing: ").split()}
    except EOFError:  # no one is there
        dropped = set[int]()
    kept = [subtask.prompt for subtask in plan.subtasks if subtask.number not in dropped]
    return Plan.of(*kept, text=plan.text) if dropped and kept else None


async def main(engine: Engine | None = None, *, task: str = TASK) -> Run:
    """Solve ``task``, and return the run."""
    async with aclosing(engine or LocalEngine(nano_path())) as opened:
        run = await Sprint(opened).run(task, review=review)
    changed = sum(stage.proposed is not None for stage in run.stages)
    print(f"\n{run.answer} ({'right' if run.verified else 'wrong'}, {changed} of {len(run.stages)} plans changed)")
    return run


if __name__ == "__main__":
    asyncio.run(main(task=" ".join(sys.argv[1:]) or TASK))
