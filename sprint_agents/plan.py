"""The nouns of a run: what a planner asks for and what comes back (PAPER, Inference)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict, TypeVar, Unpack

from .dialects.diagnostics import Diagnostic
from .errors import PolicyError
from .usage import CallUsage, StageUsage

ResultT = TypeVar("ResultT", default=str)

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Failure(BaseModel):
    """An error as data: the type's ``name`` and its message."""

    model_config = _FROZEN

    type: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Record an exception."""
        return cls(type=type(error).__name__, message=str(error) or type(error).__name__)


class ToolUse(BaseModel):
    """A call of a ``tool`` by an executor's model; ``text`` is what it was told, as JSON: the result, or the error."""

    model_config = _FROZEN

    tool: str
    arguments: str
    text: str
    failed: bool = False
    seconds: float = 0.0


class Execution(BaseModel, Generic[ResultT]):
    """What became of one subtask; ``failure`` is set exactly where ``value`` is not.

    ``text`` is what the executor wrote, without its tags, valid or not; ``usage`` sums all attempts. ``stages`` are
    those of the policy or sprint that carried it out, if one did. Where an executor took more than one turn, to call
    tools or to correct itself, ``tool_uses`` are its calls in order and ``transcript`` is all that it read and wrote.
    """

    model_config = _FROZEN

    number: int
    prompt: str
    text: str = ""
    value: ResultT | None = None
    failure: Failure | None = None
    usage: CallUsage = CallUsage()
    stages: "tuple[Stage[Any], ...]" = ()
    tool_uses: tuple[ToolUse, ...] = ()
    transcript: str = ""

    @property
    def succeeded(self) -> bool:
        """Say whether there is a value."""
        return self.failure is None


class Subtask(BaseModel):
    """One piece of work; ``number`` counts from 1 within its stage.

    It starts when those that ``after`` names are finished; by then ``inputs`` are their executions, in that order.
    """

    model_config = _FROZEN

    number: int = Field(ge=1)
    prompt: str
    after: tuple[int, ...] = ()
    inputs: tuple[Execution[Any], ...] = Field(default=(), exclude=True, repr=False)


Accept = Callable[[Execution[Any]], bool]
"""Says of an execution that succeeded whether the stage needs no other."""

Keep = Callable[[Sequence[Execution[Any]]], Iterable[int]]
"""Chooses the executions that join the planner's context, by number."""

Nested = Callable[[Any], Any]
"""A ``Policy``, which a later layer knows."""


class BranchingOptions(TypedDict, total=False):
    """The fields of ``_Branching``, as ``Plan.of`` and ``planning.ask`` take them."""

    width: int | None
    wait: bool
    accept: Accept | None
    keep: Keep | None
    nested: Nested | None
    share: float


class _Branching(BaseModel):
    """What all steps that start subtasks have in common.

    Attributes:
        width: at most so many subtasks are started, the others are recorded as failed; None for all.
        wait: False ends the stage as soon as its plan is written; ``Join`` later brings the executions.
        accept: the first execution for which it is true ends the stage; siblings still running are cancelled.
        keep: which executions join the planner's context, by number, besides an accepted one; all by default.
        nested: a policy that carries out each subtask, with plans of its own, in the executor's place.
        share: how much a nested policy may use of what is left of the run's budget when it starts, from 0 to 1.
    """

    model_config = _FROZEN

    width: int | None = Field(default=None, ge=1)
    wait: bool = True
    accept: Accept | None = Field(default=None, exclude=True, repr=False)
    keep: Keep | None = Field(default=None, exclude=True, repr=False)
    nested: Nested | None = Field(default=None, exclude=True, repr=False)
    share: float = Field(default=1.0, gt=0, le=1)


class Plan(_Branching):
    """Subtasks to run at the same time, and the ``text`` that a planner wrote around them.

    >>> plan = Plan.of("count the apples", "count the pears", "add them up", after={3: (1, 2)})
    >>> plan.subtasks[2]
    Subtask(number=3, prompt='add them up', after=(1, 2))
    """

    subtasks: tuple[Subtask, ...] = ()
    text: str = ""

    @classmethod
    def of(
        cls,
        *prompts: str,
        text: str = "",
        after: Mapping[int, Iterable[int]] | None = None,
        **options: Unpack[BranchingOptions],
    ) -> Self:
        """Make a plan of one subtask per prompt, in this order; ``after`` says which of them wait for which.

        Raises:
            PolicyError: ``after`` gives a dependency to a subtask that there is not.
        """
        waits = {number: tuple(others) for number, others in (after or {}).items()}
        if strange := waits.keys() - range(1, len(prompts) + 1):
            raise PolicyError(
                f"after= has subtask {min(strange)} wait, and the plan has {len(prompts)}: number them from 1"
            )
        subtasks = tuple(
            Subtask(number=number, prompt=prompt, after=waits[number])
            if number in waits
            else Subtask(number=number, prompt=prompt)
            for number, prompt in enumerate(prompts, 1)
        )
        return cls(subtasks=subtasks, text=text, **options)


class Ask(_Branching):
    """A step in which the model writes: a ``plan`` (or its answer), one sequential ``chain``, or the ``answer`` now."""

    form: Literal["plan", "chain", "answer"] = "plan"


class Attempts(BaseModel):
    """A step in which each of ``policies`` solves the whole task on a fork of its own, all at the same time.

    Each is an execution of the stage: its answer is the value, its words are the text; none of it joins the planner's
    context. One that fails is data, under ``fail_fast`` too. ``accept`` and ``share`` are as in ``Plan``.
    """

    model_config = _FROZEN

    policies: tuple[Nested, ...] = Field(min_length=1, exclude=True, repr=False)
    accept: Accept | None = Field(default=None, exclude=True, repr=False)
    share: float = Field(default=1.0, gt=0, le=1)


class Join(BaseModel):
    """A step that waits for the executions of a ``stage`` that did not: by default the oldest one."""

    model_config = _FROZEN

    stage: int | None = None


class Answer(BaseModel):
    """The last step of a policy: the answer of the run, as a value or as the model's text."""

    model_config = _FROZEN

    value: object


Step = Plan | Ask | Attempts | Join | Answer
"""What a policy may yield."""


class Stage(BaseModel, Generic[ResultT]):
    """A finished stage: a plan, its executions in prompt order, or the planner's answer.

    ``plan_number`` is that of the plan in the context, which prompts may name, as in "based on execution 2.1"; it is
    less than ``number`` behind chains and attempts. ``accepted`` is the number of the execution that ended the stage,
    if its step had an ``accept``. ``pending`` are the subtasks of a stage that did not wait; they become ``executions``
    when it is joined.
    """

    model_config = _FROZEN

    number: int
    plan_number: int = 0
    plan: str = ""
    executions: tuple[Execution[ResultT], ...] = ()
    answer: str | None = None
    accepted: int | None = None
    pending: tuple[int, ...] = ()
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


Execution.model_rebuild()
Subtask.model_rebuild()

FailureMode = Literal["fail_fast", "collect", "retry"]


class FailurePolicy(BaseModel):
    """What a failed execution does to the run.

    ``fail_fast`` ends the run and aborts the siblings. ``collect`` hands the failure to the planner as the
    execution's result. ``retry`` sends up to ``attempts`` times a request that may succeed later (the engine's
    retryable errors), then collects. A result that does not validate goes back to its model under each of them:
    ``Executor(attempts=…)``.
    """

    model_config = _FROZEN

    mode: FailureMode = "collect"
    attempts: Annotated[int, Field(ge=1)] = 3
