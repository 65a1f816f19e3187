"""One question, answered by a ``Sprint``: its events become lines of reasoning, and then the answer."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from sprint_agents.engine import Sampling
from sprint_agents.errors import BudgetExceeded
from sprint_agents.events import Event, ExecutionFinished, RunFinished, StageStarted, SubtaskStarted, ToolCalled
from sprint_agents.run import Run
from sprint_agents.sprint import Sprint

from .answers import planner_of
from .questions import BadRequest, Question


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A line about what the run does."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The cost of a run as both APIs count it; ``reasoning`` is everything but the last stage's text."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0

    @classmethod
    def of(cls, run: Run[Any, Any]) -> "Tokens":
        """Count a run."""
        usage, last = run.usage, run.stages[-1].usage.total.generated_tokens if run.stages else 0
        return cls(
            prompt=usage.prompt_tokens,
            cached=usage.cached_tokens,
            completion=usage.total_tokens,
            reasoning=max(0, usage.total_tokens - last),
        )


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a run: the text of its answer, empty if the budget ended the run, and its cost."""

    text: str
    tokens: Tokens
    complete: bool = True


def sprint_for(question: Question, models: Mapping[str, Sprint[Any, Any]]) -> Sprint[Any, Any]:
    """Return the ``Sprint`` that a question names, with the question's own settings.

    Raises:
        BadRequest: there is no such model, or its schema cannot be used.
    """
    sprint = models.get(question.model)
    if sprint is None:
        names = ", ".join(models)
        raise BadRequest(
            f"there is no model {question.model[:100]!r}: use {names}",
            parameter="model",
            status=404,
            code="model_not_found",
        )
    sampling = {"temperature": question.temperature, "top_p": question.top_p, "seed": question.seed}
    changes = {name: value for name, value in sampling.items() if value is not None}
    budget = sprint.budget
    if question.max_tokens is not None:
        most = min(question.max_tokens, budget.tokens or question.max_tokens)
        budget = budget.model_copy(update={"tokens": most})
    base = sprint.sampling or Sampling.of(sprint.engine.manifest)
    return Sprint(
        sprint.engine,
        policy=sprint.policy,
        planner=planner_of(question.schema, sprint.planner) if question.schema else sprint.planner,
        executor=sprint.executor,
        limits=sprint.limits,
        budget=budget,
        failure=sprint.failure,
        sampling=base.model_copy(update=changes) if changes else sprint.sampling,
        checker=None if question.schema else sprint.checker,
        dialect=sprint.dialect,
        listeners=sprint.listeners,
        hooks=sprint.hooks,
        deps_type=sprint.deps_type,
    )


async def answer(sprint: Sprint[Any, Any], task: str, *, deps: object = None) -> AsyncGenerator[Reasoning | Answered]:
    """Run a task, whose functions get ``deps``; the last item is ``Answered``.

    Raises:
        SprintError: the run failed, for another reason than its budget.
    """
    try:
        async with sprint.stream(task, deps=deps) as events:
            async for event in events:
                if line := _line(event):
                    yield Reasoning(line)
                if isinstance(event, RunFinished) and event.run.error is None:
                    value = event.run.answer
                    text = value if isinstance(value, str) else to_json(value).decode()
                    yield Answered(text, Tokens.of(event.run))
    except BudgetExceeded as error:
        yield Answered("", Tokens.of(error.run) if error.run else Tokens(), complete=False)


def _line(event: Event) -> str:
    match event:
        case StageStarted():
            return f"Stage {event.stage}\n"
        case SubtaskStarted():
            return f"{event.stage}.{event.number} {event.prompt}\n"
        case ToolCalled():
            return f"{event.stage}.{event.number} calls {event.tool}({event.arguments})\n"
        case ExecutionFinished(execution=execution):
            outcome = f"failed: {execution.failure.message}" if execution.failure else execution.text
            return f"{event.stage}.{execution.number} = {outcome}\n"
        case _:
            return ""
