"""Ask a question about local documents: one reader per document in parallel, one answer, quotes checked by code.

A quote that is not in its document never reaches the planner. Without ``--url`` a recording of a small model is
replayed.

    python examples/research.py
    python examples/research.py docs "What is a stage?" --url http://127.0.0.1:11434/v1 --model qwen3:8b
"""

import argparse
import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from sprint_agents import Engine, Execution, Executor, Limits, Plan, Planner, Planning, Run, Sprint, SprintError
from sprint_agents.engines import OpenAIEngine
from sprint_agents.policies import dag
from sprint_agents.testing import RecordedEngine

FOLDER = Path(__file__).with_name("museum")
QUESTION = "When is the museum open?"
RECORDING = Path(__file__).with_name("recordings") / "research.json"


class Finding(BaseModel):
    quote: str = Field(max_length=200, pattern=r"^[^.]+\.$")


async def main(
    engine: Engine, *, folder: Path = FOLDER, question: str = QUESTION, limits: Limits | None = None
) -> Run[str, Finding]:
    """Research ``question`` in the documents of a folder, print the answer with its quotes, and return the run."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}
    names = list(texts)

    def cited(found: Execution[Any]) -> bool:
        """Say whether the quote occurs in its document, apart from white space."""
        plain = " ".join(texts[names[found.number - 1]].split())
        return found.value is not None and " ".join(found.value.quote.split()) in plain

    def plan(planning: Planning) -> Plan:
        prompts = [f"Quote one sentence of {name} that helps to answer the question.\n{texts[name]}" for name in names]
        return Plan.of(*prompts, keep=lambda done: [found.number for found in done if cited(found)])

    planner, executor, policy = Planner(str), Executor(Finding), dag(plan, replans=0)
    async with aclosing(engine):
        sprint = Sprint(engine, policy=policy, planner=planner, executor=executor, dialect="json", limits=limits)
        run = await sprint.run(question)
    print(run.answer)
    for name, found in zip(names, run.stages[0].executions, strict=True):
        print(f'- {name}: "{found.value.quote}"' if cited(found) else f"- {name}: no quote that is in it")
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--url", help="a server with OpenAI's API")
    parser.add_argument("--model", default="qwen3:8b")
    given = parser.parse_args()
    engine = OpenAIEngine(given.url, model=given.model) if given.url else RecordedEngine(RECORDING)
    if isinstance(engine, RecordedEngine):
        print(f"{engine.recording.notice} For a model of yours, give --url and --model.\n")
    try:
        asyncio.run(main(engine, folder=given.folder, question=given.question))
    except SprintError as error:
        sys.exit(f"{type(error).__name__}: {error}")
