"""Review a git diff: one reviewer per changed file, all at the same time, and a final verdict.

Each reviewer fetches its file's diff with a tool. The planner reads only the comments.

    python examples/code_review.py HEAD~1 --model qwen3:8b
"""

import argparse
import asyncio
from contextlib import aclosing
from pathlib import Path
from subprocess import PIPE
from typing import Literal

from pydantic import BaseModel

from sprint_agents import Engine, Executor, Plan, Planner, Planning, Run, Sprint
from sprint_agents.engines import OpenAIEngine
from sprint_agents.policies import dag


class Comment(BaseModel):
    """A reviewer's comment on a line of the new file."""

    line: int
    severity: Literal["bug", "risk", "style"]
    text: str


class Review(BaseModel):
    """The verdict on the whole change."""

    approved: bool
    summary: str


async def git(repository: Path, *arguments: str) -> str:
    """Return the output of a git command."""
    process = await asyncio.create_subprocess_exec("git", "-C", str(repository), *arguments, stdout=PIPE)
    printed, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"git {' '.join(arguments)} failed in {repository}")
    return printed.decode()


async def main(engine: Engine, *, repository: Path = Path(), since: str = "HEAD~1") -> Run[Review, list[Comment]]:
    """Review the changes in ``repository`` since a commit, print comments and verdict, and return the run."""
    changed = (await git(repository, "diff", "--name-only", "--relative", since)).splitlines()

    async def diff(path: str) -> str:
        """Return the unified diff of one of the changed files."""
        if path not in changed:
            raise ValueError(f"{path} is not among the changed files {changed}")
        return await git(repository, "diff", "--relative", since, "--", path)

    def plan(planning: Planning) -> Plan:
        return Plan.of(*(f"Review the changes of {path}." for path in changed))

    planner = Planner(Review, instructions="Approve unless there is a bug. Summarise in three sentences.")
    executor = Executor(
        list[Comment], tools=[diff], instructions="Comment only on the changed lines, most severe first."
    )
    async with aclosing(engine):
        sprint = Sprint(engine, policy=dag(plan, replans=0), planner=planner, executor=executor, dialect="json")
        run = await sprint.run(f"Review the change since {since}.")
    for path, execution in zip(changed, run.stages[0].executions, strict=True):
        for comment in execution.value or []:
            print(f"{path}:{comment.line}: {comment.severity}: {comment.text}")
    print(f"{'approved' if run.answer.approved else 'not approved'}: {run.answer.summary}")
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("since", nargs="?", default="HEAD~1")
    parser.add_argument("--url", default="http://127.0.0.1:11434/v1")
    parser.add_argument("--model", default="qwen3:8b")
    given = parser.parse_args()
    asyncio.run(main(OpenAIEngine(given.url, model=given.model), since=given.since))
