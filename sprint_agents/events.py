"""The events of a run, as one closed union; streams, progress displays and journals all read the same events."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from .engine import TokenLogprob
from .plan import Execution, Plan, Stage
from .run import Run


class _Event(BaseModel):
    """What all events have: the run that they are about, and when they happened, in seconds from its start."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    run_id: str
    at: float


class RunStarted(_Event):
    """The first event of every run; ``origin`` is its start on the wall clock, ``engine`` the planner's.

    ``metadata`` is what the caller attached to the run.
    """

    kind: Literal["run_started"] = "run_started"
    task: str
    policy: str
    engine: str
    origin: datetime
    metadata: Mapping[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


class StageStarted(_Event):
    """A stage starts: the planner begins to write, or the policy supplied its own plan."""

    kind: Literal["stage_started"] = "stage_started"
    stage: int


class NoteRead(_Event):
    """A stage begins with what was said to the run (``Steering``), which its planner reads."""

    kind: Literal["note_read"] = "note_read"
    stage: int
    text: str


class PlannerWrote(_Event):
    """The next piece of the planner's text, tags included; ``tokens`` counts from the start of the request.

    ``reasoning`` is hidden reasoning, from servers that send it apart from the text. ``logprobs`` are those of the
    piece's tokens, if ``Sampling(logprobs=…)`` asks for them.
    """

    kind: Literal["planner_wrote"] = "planner_wrote"
    stage: int
    text: str
    tokens: int
    reasoning: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


class ReviewAwaited(_Event):
    """A plan is complete, and waits for its review before any of its subtasks starts."""

    kind: Literal["review_awaited"] = "review_awaited"
    stage: int
    plan: Plan


class SubtaskStarted(_Event):
    """A prompt has closed and its executor starts, while the planner may still be writing."""

    kind: Literal["subtask_started"] = "subtask_started"
    stage: int
    number: int
    prompt: str


class ExecutorWrote(_Event):
    """The next piece of an executor's text; ``tokens`` counts from the start of the attempt.

    ``reasoning`` is hidden reasoning, from servers that send it apart from the text. ``logprobs`` are those of the
    piece's tokens, if ``Sampling(logprobs=…)`` asks for them.
    """

    kind: Literal["executor_wrote"] = "executor_wrote"
    stage: int
    number: int
    text: str
    tokens: int
    reasoning: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


class ToolCalled(_Event):
    """An executor's model calls a tool; ``arguments`` is its JSON, ``call`` counts within the execution."""

    kind: Literal["tool_called"] = "tool_called"
    stage: int
    number: int
    call: int
    tool: str
    arguments: str


class ToolFinished(_Event):
    """A tool call is done, in any order; ``text`` is the JSON that the model gets back: the result or the error."""

    kind: Literal["tool_finished"] = "tool_finished"
    stage: int
    number: int
    call: int
    tool: str
    text: str
    failed: bool
    seconds: float


class ExecutionRetried(_Event):
    """A request failed or its result did not validate, for ``reason``; ``attempt`` (from 2) of the execution starts."""

    kind: Literal["execution_retried"] = "execution_retried"
    stage: int
    number: int
    attempt: int
    reason: str


class ExecutionFinished(_Event):
    """An execution is done, in any order; if it failed, ``execution.failure`` is set.

    ``replayed`` if it had finished before its stage was begun again, in a resumed run or by a retry.
    """

    kind: Literal["execution_finished"] = "execution_finished"
    stage: int
    execution: Execution[Any]
    replayed: bool = False


class BudgetAwaited(_Event):
    """A request waits until others have returned tokens to the run's budget; ``number`` is None for the planner's.

    It wants up to ``wanted`` tokens, and ``left`` are left. It is sent, or continued, as soon as enough are.
    """

    kind: Literal["budget_awaited"] = "budget_awaited"
    stage: int
    number: int | None
    wanted: int
    left: int


class InnerEvent(_Event):
    """An event in the run of a ``Sprint`` that carries out a subtask.

    That run has its own ``run_id``; its times count from the start of the run to which it belongs.
    """

    kind: Literal["inner_event"] = "inner_event"
    stage: int
    number: int
    event: "Event"


class StageFinished(_Event):
    """A stage is joined; if ``cut`` is True, a journal can resume from here.

    ``token_ids`` were added to the planner's context since the last such event; ``replayed`` if a journal supplied
    them. ``markup`` are the offsets of the markup in ``text``, as start and end. ``cut`` is False while executions of
    other stages have not joined.
    """

    kind: Literal["stage_finished"] = "stage_finished"
    stage: Stage[Any]
    token_ids: tuple[int, ...]
    text: str
    markup: tuple[tuple[int, int], ...] = ()
    replayed: bool = False
    cut: bool = True


class RunFinished(_Event):
    """The last event of every run; in a failed run, ``run.error`` is set."""

    kind: Literal["run_finished"] = "run_finished"
    run: Run[Any, Any]


Event = Annotated[
    RunStarted
    | StageStarted
    | NoteRead
    | PlannerWrote
    | ReviewAwaited
    | SubtaskStarted
    | ExecutorWrote
    | ToolCalled
    | ToolFinished
    | ExecutionRetried
    | ExecutionFinished
    | BudgetAwaited
    | InnerEvent
    | StageFinished
    | RunFinished,
    Field(discriminator="kind"),
]
"""Any event; tell them apart by class or by ``kind``."""
