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

from .conversation import JSONConversation, read_json
from .dag import ExtractionFault, dag_fault, dag_of
from .extractor import steps_fault
from .lines import lines_at, lines_of, numbers_in
from .records import Dag, Extraction, LineRange, Rejection, StageName, Step, Trace

T = TypeVar("T")

VERSION = 1
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

    ``dag_engine`` is the same engine by default. ``max_tokens`` limits each answer. Temporary failures of an engine are
    retried; other failures are raised.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        dag_engine: Engine | None = None,
        max_tokens: int = 8_000,
        sampling: Sampling | None = None,
    ) -> None:
        self._engine = engine
        self._dag_engine = dag_engine or engine
        self._max_tokens = max_tokens
        self._sampling = sampling or Sampling(temperature=0)

    @property
    def name(self) -> str:
        """The version of the prompts, and the models that answer them."""
        return f"llm-{VERSION}:{self._engine.name}:{self._dag_engine.name}"

    async def steps(self, trace: Trace) -> Extraction | Rejection:
        """Ask for the steps of a trace.

        Raises:
            EngineError: the engine failed permanently, or too often.
        """
        lines = lines_of(trace.trace).chain
        numbered = "\n".join(f"{number}: {line}" for number, line in enumerate(lines, 1))
        prompt = _filled("steps", problem=trace.problem.strip(), lines=numbered)
        conversation = JSONConversation(self._engine, _StepsAnswer, self._max_tokens, self._sampling)
        return await _ask(
            conversation, prompt, lambda text: _read_steps(text, trace.id, len(lines)), trace_id=trace.id, stage="steps"
        )

    async def dag(self, trace: Trace, extraction: Extraction) -> Dag | Rejection:
        """Ask what the steps build on.

        Raises:
            EngineError: the engine failed permanently, or too often.
        """
        lines = lines_of(trace.trace).chain
        shown = "\n\n".join(_shown(step, lines) for step in extraction.steps)
        prompt = _filled("dag", problem=trace.problem.strip(), steps=shown)
        count = len(extraction.steps)
        conversation = JSONConversation(self._dag_engine, _DagAnswer, self._max_tokens, self._sampling)
        return await _ask(
            conversation, prompt, lambda text: _read_dag(text, trace.id, count), trace_id=trace.id, stage="dag"
        )


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


def _read_steps(text: str, trace_id: str, lines: int) -> Extraction | ExtractionFault:
    answer = read_json(text, _StepsAnswer)
    if isinstance(answer, ExtractionFault):
        return answer
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


def _read_dag(text: str, trace_id: str, steps: int) -> Dag | ExtractionFault:
    answer = read_json(text, _DagAnswer)
    if isinstance(answer, ExtractionFault):
        return answer
    parents = {item.step: item.parents for item in answer.parents}
    if len(parents) < len(answer.parents):
        return ExtractionFault("wrong_shape", "a step is listed twice: list every step once")
    return dag_fault(parents, steps=steps) or dag_of(trace_id, parents)


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
