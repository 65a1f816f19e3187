"""The nouns of a run: what a planner asks for and what comes back (PAPER, Inference)."""

from typing import Annotated, Generic, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeVar

from .dialect.diagnostics import Diagnostic
from .usage import CallUsage, StageUsage

ResultT = TypeVar("ResultT", default=str)

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Subtask(BaseModel):
    """One independent piece of work; ``number`` counts from 1 within its stage."""

    model_config = _FROZEN

    number: int = Field(ge=1)
    prompt: str


class Plan(BaseModel):
    """Subtasks to run at the same time, and the ``text`` that a planner wrote around them.

    >>> Plan.of("count the apples", "count the pears").subtasks[1]
    Subtask(number=2, prompt='count the pears')
    """

    model_config = _FROZEN

    subtasks: tuple[Subtask, ...] = ()
    text: str = ""

    @classmethod
    def of(cls, *prompts: str, text: str = "") -> Self:
        """Make a plan of one subtask per prompt, in this order."""
        subtasks = tuple(Subtask(number=number, prompt=prompt) for number, prompt in enumerate(prompts, 1))
        return cls(subtasks=subtasks, text=text)


class Ask(BaseModel):
    """A step in which the model writes: a ``plan`` (or its answer), one sequential ``chain``, or the ``answer`` now."""

    model_config = _FROZEN

    form: Literal["plan", "chain", "answer"] = "plan"


class Answer(BaseModel):
    """The last step of a policy: the answer of the run, as a value or as the model's text."""

    model_config = _FROZEN

    value: object


Step = Plan | Ask | Answer
"""What a policy may yield."""


class Failure(BaseModel):
    """An error as data: the type's ``name`` and its message."""

    model_config = _FROZEN

    type: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Record an exception."""
        return cls(type=type(error).__name__, message=str(error) or type(error).__name__)


class Execution(BaseModel, Generic[ResultT]):
    """What became of one subtask; ``failure`` is set exactly where ``value`` is not.

    ``text`` is what the executor wrote, without its tags; ``usage`` sums all attempts.
    """

    model_config = _FROZEN

    number: int
    prompt: str
    text: str = ""
    value: ResultT | None = None
    failure: Failure | None = None
    usage: CallUsage = CallUsage()

    @property
    def succeeded(self) -> bool:
        """Say whether there is a value."""
        return self.failure is None


class Stage(BaseModel, Generic[ResultT]):
    """A finished stage: a plan, its executions in prompt order, or the planner's answer."""

    model_config = _FROZEN

    number: int
    plan: str = ""
    executions: tuple[Execution[ResultT], ...] = ()
    answer: str | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    usage: StageUsage

    @property
    def results(self) -> list[ResultT]:
        """Return the values of the executions that succeeded, in prompt order."""
        return [execution.value for execution in self.executions if execution.succeeded]  # type: ignore[misc]

    @property
    def failures(self) -> list[Execution[ResultT]]:
        """Return the executions that failed, in prompt order."""
        return [execution for execution in self.executions if not execution.succeeded]


FailureMode = Literal["fail_fast", "collect", "retry"]


class FailurePolicy(BaseModel):
    """What a failed execution does to the run.

    ``fail_fast`` ends the run and aborts the siblings. ``collect`` hands the failure to the planner as the
    execution's result. ``retry`` tries up to ``attempts`` times what may succeed later (the engine's retryable errors,
    results that do not validate), then collects.
    """

    model_config = _FROZEN

    mode: FailureMode = "collect"
    attempts: Annotated[int, Field(ge=1)] = 3
