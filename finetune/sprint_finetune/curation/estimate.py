"""What a curation with a model will ask and cost, before anything is sent."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

from sprint_finetune.grading import Verifier

from .lines import lines_of
from .llm_extractor import LLMExtractor, dag_question, steps_question
from .pipeline import CurationSettings, curate
from .records import Dag, Extraction, Rejection, Trace
from .spending import CallTokens, Spending

CHARACTERS_PER_TOKEN = 2.5
"""Of prompts, which are full of line numbers and formulas: the median of 170 chains with SmolLM2's tokenizer."""
LINES_PER_STEP = 3.4
"""Mean of the 66 labelled traces of the tests, as are the lengths of answers with a task of 27 words per step."""
STEP_TOKENS = 72
PARENTS_TOKENS = 15


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions to one model: their number, the tokens of prompts, and those of answers of the usual length.

    A repair doubles a question at most: it sends the prompt and the first answer again.
    """

    model: str
    requests: int = 0
    prompt: int = 0
    completion: int = 0

    def plus(self, question: str, *, completion: int) -> "Questions":
        """Add a question that is asked."""
        prompt = ceil(len(question) / CHARACTERS_PER_TOKEN)
        return Questions(self.model, self.requests + 1, self.prompt + prompt, self.completion + completion)

    def price(self, spending: Spending) -> Decimal:
        """Return the price in US dollars, as if all questions had the same length."""
        count = max(self.requests, 1)
        return count * spending.price(self.model, CallTokens(self.prompt // count, self.completion // count))

    def most(self, max_tokens: int) -> "Questions":
        """Return the questions if every answer is as long as it may be, and is repaired once."""
        answers = self.requests * max_tokens
        return Questions(self.model, 2 * self.requests, 2 * self.prompt + answers, 2 * answers)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The questions that are left. ``traces`` are those that reach the extractor, of ``read`` ones."""

    read: int
    traces: int
    steps: Questions
    dags: Questions


async def estimate(
    source: Iterable[Trace | Rejection],
    folder: Path,
    *,
    extractor: LLMExtractor,
    settings: CurationSettings | None = None,
    verifier: Verifier | None = None,
    concurrency: int = 8,
) -> Estimate:
    """Estimate what ``curate`` with the same arguments would ask, without asking and without writing into ``folder``.

    Answers are checked as in a real run, because traces with wrong ones are never sent. What ``folder`` already has is
    not counted.

    Raises:
        ConfigurationError: the folder belongs to another source, extractor or settings.
    """
    counting = _Counting(extractor)
    with TemporaryDirectory() as copied:
        copy = Path(copied)
        _copy_finished(folder, copy)
        report = await curate(
            source, copy, extractor=counting, settings=settings, verifier=verifier, concurrency=concurrency
        )
    return Estimate(report.traces, counting.traces, counting.asked_steps, counting.asked_dags)


def _copy_finished(folder: Path, copy: Path) -> None:
    for name in ("settings.json", "traces.jsonl", "answers.jsonl", "steps.jsonl", "dags.jsonl"):
        if (folder / name).is_file():
            shutil.copy(folder / name, copy / name)


@dataclass(slots=True)
class _Counting:
    """An ``Extractor`` that counts what another one would ask, and rejects every trace."""

    extractor: LLMExtractor
    traces: int = 0
    asked_steps: Questions = field(init=False)
    asked_dags: Questions = field(init=False)

    def __post_init__(self) -> None:
        self.asked_steps = Questions(self.extractor.engine.name)
        self.asked_dags = Questions(self.extractor.dag_engine.name)

    @property
    def name(self) -> str:
        return self.extractor.name

    async def steps(self, trace: Trace) -> Rejection:
        self.traces += 1
        lines = lines_of(trace.trace).chain
        steps = ceil(len(lines) / LINES_PER_STEP)
        self.asked_steps = self.asked_steps.plus(steps_question(trace), completion=STEP_TOKENS * steps)
        # The descriptions of the steps are not known yet: about ten words each.
        shown = dag_question(trace, Extraction(id=trace.id, steps=())) + "\n".join(lines) + " " * 60 * steps
        self.asked_dags = self.asked_dags.plus(shown, completion=PARENTS_TOKENS * steps)
        return _rejected(trace)

    async def dag(self, trace: Trace, extraction: Extraction) -> Dag | Rejection:
        self.traces += 1
        question, steps = dag_question(trace, extraction), len(extraction.steps)
        self.asked_dags = self.asked_dags.plus(question, completion=PARENTS_TOKENS * steps)
        return _rejected(trace)


def _rejected(trace: Trace) -> Rejection:
    return Rejection(id=trace.id, stage="steps", reason="uncovered", detail="only its questions were counted")
