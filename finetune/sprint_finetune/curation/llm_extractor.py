"""Steps and dependencies found by a language model, on any ``Engine`` (arXiv 2506.05745, section 3.2).

The model names line numbers and copies no text. Its answer is checked strictly. If it has a fault, the model is told so
once in the same conversation, and if the second answer has a fault too, the trace is rejected with the reason. The
prompts are files beside this module. Every change to them needs a new version.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from sprint_agents.engine import Engine, Sampling
from sprint_agents.errors import ContextOverflow

from .answer_record import AnswerRecord
from .conversation import JSONConversation
from .dag import ExtractionFault, dag_fault, dag_of, unlinked_fault
from .extractor import steps_fault
from .json_answers import read_answer
from .lines import lines_at, lines_of, numbers_in
from .model_calls import ModelCalls
from .pace import Pace
from .records import Dag, Extraction, LineRange, Rejection, StageName, Step, Trace
from .spending import Spending

T = TypeVar("T")

VERSION = 2
"""Version of the prompts and of how answers are read."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _StepAnswer(_Answer):
    plan: tuple[LineRange, ...]
    execution: tuple[LineRange, ...]
    comments: tuple[LineRange, ...]
    description: str
    prompt: str


class _StepsAnswer(_Answer):
    steps: tuple[_StepAnswer, ...]


class _ParentsAnswer(_Answer):
    step: int
    parents: tuple[int, ...]


class _DagAnswer(_Answer):
    parents: tuple[_ParentsAnswer, ...]


class LLMExtractor:
    """An ``Extractor`` that asks ``engine`` for steps, and ``dag_engine`` for their dependencies.

    ``dag_engine`` is the same engine by default. ``max_tokens`` limits each answer. With a ``record``, an answer is on
    the disk before it is used, and no question that has one is asked again. ``pace`` limits requests and tokens per
    minute, and ``spending`` tokens and money in total. A question that the server refuses for now is sent again for
    ``patience`` seconds; other temporary failures are retried a few times.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        dag_engine: Engine | None = None,
        max_tokens: int = 8_000,
        sampling: Sampling | None = None,
        record: AnswerRecord | None = None,
        pace: Pace | None = None,
        spending: Spending | None = None,
        patience: float = 900.0,
    ) -> None:
        self.engine = engine
        self.dag_engine = dag_engine or engine
        self.max_tokens = max_tokens
        self._sampling = sampling or Sampling(temperature=0)
        self._calls = ModelCalls(record=record, pace=pace or Pace(), spending=spending or Spending(), patience=patience)

    @property
    def name(self) -> str:
        """The version of the prompts, and the models that answer them."""
        return f"llm-{VERSION}:{self.engine.name}:{self.dag_engine.name}"

    @property
    def spending(self) -> Spending:
        """What the answers have cost, those of the record included."""
        return self._calls.spending

    async def steps(self, trace: Trace) -> Extraction | Rejection:
        """Ask for the steps of a trace.

        Raises:
            BudgetExceeded: the budget has no room for the question.
            EngineError: the engine failed permanently, or too often.
        """
        lines = len(lines_of(trace.trace).chain)
        asked = self._asked(self.engine, _StepsAnswer)
        return await _ask(
            asked,
            steps_question(trace),
            lambda text: read_answer(text, _StepsAnswer, lambda answer: _steps_of(answer, trace.id, lines)),
            trace_id=trace.id,
            stage="steps",
        )

    async def dag(self, trace: Trace, extraction: Extraction) -> Dag | Rejection:
        """Ask what the steps build on. If none is said to build on any other, that is asked again.

        Raises:
            BudgetExceeded: the budget has no room for the question.
            EngineError: the engine failed permanently, or too often.
        """
        count = len(extraction.steps)
        asked = self._asked(self.dag_engine, _DagAnswer)
        return await _ask(
            asked,
            dag_question(trace, extraction),
            lambda text: read_answer(text, _DagAnswer, lambda answer: _dag_of(answer, trace.id, count)),
            trace_id=trace.id,
            stage="dag",
        )

    def _asked(self, engine: Engine, form: type[_Answer]) -> JSONConversation:
        return JSONConversation(engine, form, self.max_tokens, self._sampling, self._calls)


def steps_question(trace: Trace) -> str:
    """Return the question for the steps of a trace."""
    numbered = "\n".join(f"{number}: {line}" for number, line in enumerate(lines_of(trace.trace).chain, 1))
    return _filled("steps", problem=trace.problem.strip(), lines=numbered)


def dag_question(trace: Trace, extraction: Extraction) -> str:
    """Return the question for the dependencies of steps."""
    lines = lines_of(trace.trace).chain
    shown = "\n\n".join(_shown(step, lines) for step in extraction.steps)
    return _filled("dag", problem=trace.problem.strip(), steps=shown)


async def _ask(
    conversation: JSONConversation,
    prompt: str,
    read: Callable[[str], T | ExtractionFault],
    *,
    trace_id: str,
    stage: StageName,
) -> T | Rejection:
    """Ask, and ask once more if the answer has a fault."""
    try:
        result = read(await conversation.ask(prompt))
        if isinstance(result, ExtractionFault):
            result = read(await conversation.ask(_filled("repair", fault=result.detail)))
    except ContextOverflow as error:
        return Rejection(id=trace_id, stage=stage, reason="context_overflow", detail=str(error))
    if isinstance(result, ExtractionFault):
        detail = f"after one repair: {result.detail}"
        return Rejection(id=trace_id, stage=stage, reason=result.reason, detail=detail)
    return result


def _steps_of(answer: _StepsAnswer, trace_id: str, lines: int) -> Extraction | ExtractionFault:
    if any(step.description == "…" for step in answer.steps):
        return ExtractionFault("wrong_shape", "that is the example of the question: describe each step")
    steps = tuple(
        Step(
            number=number,
            plan=step.plan,
            execution=step.execution,
            comments=step.comments,
            description=step.description,
            prompt=step.prompt.strip() or None,
        )
        for number, step in enumerate(answer.steps, 1)
    )
    if fault := steps_fault(steps, lines=lines):
        return fault
    ordered = sorted(steps, key=lambda step: min(numbers_in([*step.plan, *step.execution, *step.comments])))
    numbered = (step.model_copy(update={"number": number}) for number, step in enumerate(ordered, 1))
    return Extraction(id=trace_id, steps=tuple(numbered))


def _dag_of(answer: _DagAnswer, trace_id: str, steps: int) -> Dag | ExtractionFault:
    parents = {item.step: item.parents for item in answer.parents}
    if len(parents) < len(answer.parents):
        return ExtractionFault("wrong_shape", "a step is listed twice: list every step once")
    if fault := dag_fault(parents, steps=steps):
        return fault
    dag = dag_of(trace_id, parents)
    return unlinked_fault(dag) or dag


def _shown(step: Step, lines: Sequence[str]) -> str:
    text = "\n".join(lines_at(lines, sorted(numbers_in([*step.plan, *step.execution, *step.comments]))))
    return f"Step {step.number}: {step.description}\n{text}"


@cache
def _prompt(name: str) -> str:
    return files("sprint_finetune.curation").joinpath(f"{name}_v{VERSION}.txt").read_text(encoding="utf-8")


def _filled(name: str, **values: str) -> str:
    """Fill the placeholders of a prompt, in order. The values may contain braces."""
    text = _prompt(name)
    parts: list[str] = []
    for key, value in values.items():
        before, _, text = text.partition(f"{{{key}}}")
        parts += [before, value]
    return "".join([*parts, text])
