"""Review a diff: one reviewer per changed file, all at the same time, and a final verdict.

A comment that names no line of its file never reaches the planner. Without ``--url`` a recording of a small model is
replayed.

    python examples/code_review.py
    git diff HEAD~1 | python examples/code_review.py - --url http://127.0.0.1:11434/v1 --model qwen3:8b
"""

import argparse
import asyncio
import re
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from sprint_agents import Engine, Execution, Executor, Limits, Plan, Planner, Planning, Run, Sprint, SprintError
from sprint_agents.engines import OpenAIEngine
from sprint_agents.policies import dag
from sprint_agents.testing import RecordedEngine

CHANGE = Path(__file__).with_name("museum") / "change.diff"
RECORDING = Path(__file__).with_name("recordings") / "code_review.json"
FILE = re.compile(r"^\+\+\+ (?:b/)?(.+)\n", re.MULTILINE)
ADDED = re.compile(r"^\+(?!\+\+)\s*(\S.*)", re.MULTILINE)
Verdict = Literal["approve", "request changes"]


class Comment(BaseModel):
    line: int = Field(ge=1, le=99)
    problem: Literal["wrong", "unsafe", "slow", "unclear"]


async def main(engine: Engine, *, diff: str | None = None, limits: Limits | None = None) -> Run[Verdict, Comment]:
    """Review a diff as git writes it, print comments and verdict, and return the run."""
    _, *parts = FILE.split(CHANGE.read_text(encoding="utf-8") if diff is None else diff)
    added = {name: ADDED.findall(change) for name, change in zip(parts[::2], parts[1::2], strict=True)}
    names = list(added)

    def line_of(done: Execution[Any]) -> str:
        lines = added[names[done.number - 1]]
        return lines[done.value.line - 1] if done.value and done.value.line <= len(lines) else ""

    def plan(planning: Planning) -> Plan:
        numbered = {name: "\n".join(f"{at}. {line}" for at, line in enumerate(added[name], 1)) for name in names}
        prompts = [f"Which added line of {name} is worst, and what is its problem?\n{numbered[name]}" for name in names]
        return Plan.of(*prompts, keep=lambda done: [one.number for one in done if line_of(one)])

    policy, planner, executor = dag(plan, replans=0), Planner(Verdict), Executor(Comment)
    async with aclosing(engine):
        sprint = Sprint(engine, policy=policy, planner=planner, executor=executor, dialect="json", limits=limits)
        run = await sprint.run("Review this change. Request changes if a line is wrong or unsafe.")
    for name, done in zip(names, run.stages[0].executions, strict=True):
        print(f"{name}: {line_of(done)}  # {done.value.problem}" if line_of(done) else f"{name}: no valid comment")
    print(run.answer)
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("diff", type=argparse.FileType(encoding="utf-8"), nargs="?", default=str(CHANGE))
    parser.add_argument("--url", help="a server with OpenAI's API")
    parser.add_argument("--model", default="qwen3:8b")
    given = parser.parse_args()
    engine = OpenAIEngine(given.url, model=given.model) if given.url else RecordedEngine(RECORDING)
    if isinstance(engine, RecordedEngine):
        print(f"{engine.recording.notice} For a model of yours, give --url and --model.\n")
    try:
        asyncio.run(main(engine, diff=given.diff.read()))
    except SprintError as error:
        sys.exit(f"{type(error).__name__}: {error}")
