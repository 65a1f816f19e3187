"""The parts of a run: the steps that a policy yields, and the stages that come back (arXiv 2506.05745, section 3.1)."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
)
from typing_extensions import TypedDict, TypeVar, Unpack

from .confidence import ConfidenceBound
from .dialects.completions import Diagnostic
from .engine import MOST_ALTERNATIVES, TokenLogprob
from .errors import PolicyError, Superseded, escape_surrogates, message_of
from .json_values import ReadFromText, dump_value
from .settles import Settles
from .usage import CallUsage, EngineCall, StageUsage

ResultT = TypeVar("ResultT", default=str)

# Deferred, so that `import sprint_agents` builds no validators: the first use of a model does.
_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class GenericRecord(BaseModel):
    """A record with type parameters that can be pickled, whatever they are: ``Run[int, str]``."""

    model_config = _FROZEN

    def __reduce__(self) -> tuple[Any, ...]:
        # A parametrised class is not an attribute of its module, so pickle cannot look it up by name.
        kind = type(self)
        generic = kind.__pydantic_generic_metadata__
        return _parametrised, (generic["origin"] or kind, generic["args"]), self.__getstate__()


def _parametrised(origin: Any, parameters: tuple[Any, ...]) -> GenericRecord:
    kind: type[GenericRecord] = origin[parameters] if parameters else origin
    return kind.__new__(kind)


class Failure(BaseModel):
    """An error as data: the name of its type, and its message."""

    model_config = _FROZEN

    type: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Record an exception."""
        return cls(type=type(error).__name__, message=message_of(error) or type(error).__name__)


class ToolUse(BaseModel):
    """One tool call by an executor's model; ``text`` is the JSON that the model got back: the result or the error.

    It ``started`` that many seconds from the start of the run, and took ``seconds``. It was ``refused`` if
    ``Tool(approve=…)`` did not allow it; the tool was not called then.
    """

    model_config = _FROZEN

    tool: str
    arguments: str
    text: str
    failed: bool = False
    refused: bool = False
    started: float = 0.0
    seconds: float = 0.0


class Execution(GenericRecord, Generic[ResultT]):
    """The outcome of one subtask: a ``value`` of the executor's type, or a ``failure``.

    ``number``, ``prompt`` and ``after`` are the subtask's. ``text`` is the executor's output without its tags, valid or
    not. ``usage`` is the sum of all attempts. ``stages`` are set if a policy or a sprint carried out the subtask. If
    the executor called tools or corrected itself, ``tool_uses`` lists its calls in order and ``transcript`` is
    everything that it read and wrote. ``logprobs`` are those of the model's last completion, tags included, if
    ``Sampling(logprobs=…)`` asks for them.

    Times are seconds from the start of the run. The prompt was closed at ``prompt_closed``, with ``plan_tokens`` of the
    planner (0 if no model wrote the plan). The execution ``started`` as soon as it had its inputs and a place under
    ``Limits(concurrency=…)``. ``calls`` are its own calls of the engine, in order.
    """

    number: int
    prompt: str
    after: tuple[int, ...] = ()
    text: str = ""
    value: Annotated[ResultT | None, ReadFromText()] = None
    failure: Failure | None = None
    usage: CallUsage = Field(default_factory=CallUsage)
    stages: "tuple[Stage[Any], ...]" = ()
    tool_uses: tuple[ToolUse, ...] = ()
    transcript: str = ""
    plan_tokens: int = 0
    prompt_closed: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    calls: tuple[EngineCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    @field_serializer("value", mode="wrap", when_used="json")
    def _dump_value(self, value: Any, dump: SerializerFunctionWrapHandler) -> Any:
        return dump_value(value, dump)

    @property
    def succeeded(self) -> bool:
        """Say whether there is a value."""
        return self.failure is None

    @property
    def stopped(self) -> bool:
        """Say whether it was cut off, or not started, because its stage or its run had ended without it."""
        return self.failure is not None and self.failure.type == Superseded.__name__


class Subtask(BaseModel):
    """One piece of work; ``number`` counts from 1 within its stage.

    It starts when all subtasks in ``after`` are finished. ``inputs`` are then their executions, in that order.
    """

    model_config = _FROZEN

    number: int = Field(ge=1)
    prompt: str
    after: tuple[int, ...] = ()
    inputs: tuple[Execution[Any], ...] = Field(default=(), exclude=True, repr=False)


Accept = Settles | str | re.Pattern[str] | Callable[[Execution[Any]], bool | Awaitable[bool]]
"""Says of a successful execution whether the stage can end with it: see ``Settles``. A function may be async."""


def _to_settles(accept: Any) -> Any:
    return None if accept is None else Settles.of(accept)


AcceptField = Annotated[Accept | None, BeforeValidator(_to_settles), Field(exclude=True, repr=False)]
"""The field of a step for its ``Accept``, which becomes a ``Settles``."""

Keep = Callable[[Sequence[Execution[Any]]], Iterable[int] | Awaitable[Iterable[int]]]
"""Returns the numbers of the executions that join the planner's context; may be async."""

Nested = Callable[[Any], Any]
"""A ``Policy``; a later layer defines that type."""


class BranchingOptions(TypedDict, total=False):
    """The options of ``Plan.of`` and ``planning.ask``, described in ``Plan``."""

    width: int | None
    wait: bool
    accept: Accept | None
    keep: Keep | None
    nested: Nested | None
    share: float


class _Branching(BaseModel):
    """The options of all steps that start subtasks.

    Attributes:
        width: the most subtasks to start; further ones are recorded as failed. None for all.
        wait: False ends the stage as soon as its plan is written; a later ``Join`` brings the executions.
        accept: the first execution that it accepts ends the stage, and its siblings are cancelled. By default what the
            run or the checkpoint says settles the stages of a model's plans; None for no execution.
        keep: the executions that join the planner's context, besides an accepted one. None for all.
        nested: a policy that carries out each subtask, instead of the executor.
        share: the most that a nested policy may use of the budget that is left when it starts, from 0 to 1.
    """

    model_config = _FROZEN

    width: int | None = Field(default=None, ge=1)
    wait: bool = True
    accept: AcceptField = None
    keep: Keep | None = Field(default=None, exclude=True, repr=False)
    nested: Nested | None = Field(default=None, exclude=True, repr=False)
    share: float = Field(default=1.0, gt=0, le=1)


class Plan(_Branching):
    """A step that starts subtasks in parallel; ``text`` is the planner's text around them.

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
        """Make a plan with one subtask per prompt; ``after`` maps a subtask to those that it waits for.

        Raises:
            PolicyError: ``after`` names a subtask that the plan does not have, or is no such mapping.
        """
        try:
            waits = {number: tuple(others) for number, others in (after or {}).items()}
        except (AttributeError, TypeError) as error:
            raise PolicyError("after= maps a subtask's number to a list of those it waits for: {3: [1, 2]}") from error
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
    """A step in which the model writes: a ``plan`` (or its answer), one sequential ``chain``, or the ``answer`` now.

    A ``graph`` is a plan whose subtasks may wait for earlier ones, if the dialect has a notation for that.
    """

    form: Literal["plan", "graph", "chain", "answer"] = "plan"

    @property
    def plans(self) -> bool:
        """Say whether it asks for subtasks."""
        return self.form in ("plan", "graph")


class Attempts(BaseModel):
    """A step in which each of ``policies`` solves the whole task on its own fork, all at the same time.

    Each attempt is an execution of the stage: ``value`` is its answer, ``text`` what it wrote. Nothing of it joins the
    planner's context. A failed attempt is data, even under ``fail_fast``. ``accept`` and ``share`` are as in ``Plan``.

    ``logprobs`` asks for at least so many alternatives at each token, as ``Sampling(logprobs=…)`` does. A completion of
    an attempt's planner whose confidence falls below ``bound`` is aborted: the attempt fails as ``LowConfidence``.
    """

    model_config = _FROZEN

    policies: tuple[Nested, ...] = Field(min_length=1, exclude=True, repr=False)
    accept: AcceptField = None
    share: float = Field(default=1.0, gt=0, le=1)
    logprobs: int | None = Field(default=None, ge=0, le=MOST_ALTERNATIVES)
    bound: ConfidenceBound | None = None


class Join(BaseModel):
    """A step that waits for the executions of a pending ``stage``, by default the oldest."""

    model_config = _FROZEN

    stage: int | None = None


class Answer(BaseModel):
    """The last step of a policy: the answer of the run, as a value or as the model's text.

    The policy is closed at this ``yield``. Write ``return`` after it wherever other code follows.
    """

    model_config = _FROZEN

    value: object

    @field_validator("value")
    @classmethod
    def _escape(cls, value: object) -> object:
        return escape_surrogates(value) if isinstance(value, str) else value


Step = Plan | Ask | Attempts | Join | Answer
"""Anything that a policy may yield."""


class Stage(GenericRecord, Generic[ResultT]):
    """A finished stage: a plan and its executions in prompt order, or the planner's answer.

    ``plan_number`` is the number of the plan in the context, which later prompts may cite ("based on execution 2.1").
    It is less than ``number`` after chains and attempts, which have no plan. ``accepted`` is the number of the
    execution that settled the stage: see ``Settles``. At most ``concurrency`` executions ran at once; None for any.

    ``pending`` lists the subtasks of a stage that did not wait; once it is joined, they are its ``executions``. A stage
    is ``interrupted`` if its run ended before the stage did. Its executions are then those that had started, and the
    unfinished ones have failed as ``Superseded``.
    ``logprobs`` are those of the planner's completion, tags included, if ``Sampling(logprobs=…)`` asks for them.
    ``proposed`` is the plan before a reviewer changed it; None if none did.

    ``started`` and ``ended`` are seconds from the start of the run. ``calls`` are the stage's own calls of the engine,
    the planner's, in order; those of its executions are in the executions.
    """

    number: int
    plan_number: int = 0
    plan: str = ""
    executions: tuple[Execution[ResultT], ...] = ()
    answer: str | None = None
    accepted: int | None = None
    concurrency: int | None = None
    pending: tuple[int, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    interrupted: bool = False
    started: float = 0.0
    ended: float = 0.0
    calls: tuple[EngineCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    proposed: Plan | None = None
    usage: StageUsage

    @property
    def results(self) -> list[ResultT]:
        """Return the values of the successful executions, in prompt order."""
        return [execution.value for execution in self.executions if execution.succeeded]  # type: ignore[misc]

    @property
    def failures(self) -> list[Execution[ResultT]]:
        """Return the failed executions, in prompt order."""
        return [execution for execution in self.executions if not execution.succeeded]


FailureMode = Literal["fail_fast", "collect", "retry"]
"""What a failed execution does to the run: see ``FailurePolicy``."""


class FailurePolicy(BaseModel):
    """What happens when an execution fails.

    ``collect`` shows the failure to the planner in place of the result. ``retry`` repeats a request that may succeed
    later (a retryable error of the engine) up to ``attempts`` times, then collects. ``fail_fast`` aborts the siblings
    and ends the run. Under each of them, a result that does not validate goes back to its model first:
    ``Executor(attempts=…)``.
    """

    model_config = _FROZEN

    mode: FailureMode = "collect"
    attempts: Annotated[int, Field(ge=1)] = 3
