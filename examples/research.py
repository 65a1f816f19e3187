"""Ask a question about local documents: one reader per document in parallel, one report, citations checked by code.

A finding whose quote is not in its document never reaches the planner; a report with a wrong quote is rewritten.

    python examples/research.py docs "What happens when a subtask fails?" --model qwen3:8b
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sprint_agents import Engine, Execution, Executor, Plan, Planner, Planning, Run, Sprint
from sprint_agents.engines import OpenAIEngine
from sprint_agents.policies import dag, until


class Finding(BaseModel):
    """A statement, and the quote that supports it."""

    statement: str
    document: str
    quote: str


class Report(BaseModel):
    """The answer to the question, with the findings that support it."""

    summary: str
    findings: list[Finding]


def cited(texts: dict[str, str], found: list[Finding] | Report) -> bool:
    """Say whether every quote occurs in its document, apart from white space."""
    findings = found.findings if isinstance(found, Report) else found
    plain = {name: " ".join(text.split()) for name, text in texts.items()}
    return all(" ".join(one.quote.split()) in plain.get(one.document, "") for one in findings)


async def main(engine: Engine, *, texts: dict[str, str], question: str) -> Run[Report, list[Finding]]:
    """Research ``question`` in the documents, print the report, and return the run."""

    def find(document: str, word: str) -> list[int]:
        """Return the numbers of the lines of a document that contain a word."""
        lines = texts[document].splitlines()
        return [number for number, line in enumerate(lines, 1) if word.casefold() in line.casefold()]

    def read(document: str, first: int = 1, count: int = 40) -> str:
        """Return ``count`` lines of a document from line ``first``."""
        return "\n".join(texts[document].splitlines()[first - 1 : first - 1 + count])

    def keep(done: Sequence[Execution[Any]]) -> list[int]:
        return [one.number for one in done if one.value is not None and cited(texts, one.value)]

    def plan(planning: Planning) -> Plan:
        return Plan.of(*(f"Quote what helps to answer the question from {name}." for name in texts), keep=keep)

    policy = until(dag(plan, replans=0), partial(cited, texts), feedback=lambda tried: f"Wrongly quoted: {tried.text}")
    planner, executor = Planner(Report), Executor(list[Finding], tools=[find, read])
    async with aclosing(engine):
        run = await Sprint(engine, policy=policy, planner=planner, executor=executor, dialect="json").run(question)
    print(run.answer.summary, *(f'- {one.document}: "{one.quote}"' for one in run.answer.findings), sep="\n")
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs"))
    parser.add_argument("question", nargs="?", default="What happens when a subtask fails?")
    parser.add_argument("--url", default="http://127.0.0.1:11434/v1")
    parser.add_argument("--model", default="qwen3:8b")
    given = parser.parse_args()
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(given.folder.glob("*.md"))}
    asyncio.run(main(OpenAIEngine(given.url, model=given.model), texts=texts, question=given.question))
