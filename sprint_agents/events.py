"""What happens in a run, as one closed union: streaming, progress, journal and logs all read the same events."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .plan import Execution, Stage
from .run import Run


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunStarted(_Event):
    """The first event of every run."""

    kind: Literal["run_started"] = "run_started"
    run_id: str
    task: str
    policy: str


class StageStarted(_Event):
    """A stage begins: the planner writes, or a policy has given its own plan."""

    kind: Literal["stage_started"] = "stage_started"
    stage: int


class PlannerWrote(_Event):
    """The next piece of the planner's text, tags included; ``tokens`` so far in this call."""

    kind: Literal["planner_wrote"] = "planner_wrote"
    stage: int
    text: str
    tokens: int


class SubtaskStarted(_Event):
    """A prompt has closed and its executor starts, while the planner may still be writing."""

    kind: Literal["subtask_started"] = "subtask_started"
    stage: int
    number: int
    prompt: str


class ExecutorWrote(_Event):
    """The next piece of an executor's text; ``tokens`` so far in this attempt."""

    kind: Literal["executor_wrote"] = "executor_wrote"
    stage: int
    number: int
    text: str
    tokens: int


class ToolCalled(_Event):
    """An executor's model calls a tool with ``arguments``, JSON as it wrote it; ``call`` counts in the execution."""

    kind: Literal["tool_called"] = "tool_called"
    stage: int
    number: int
    call: int
    tool: str
    arguments: str


class ToolFinished(_Event):
    """A tool has returned, in whatever order; ``text`` is what the model is told, as JSON: the result, or the error."""

    kind: Literal["tool_finished"] = "tool_finished"
    stage: int
    number: int
    call: int
    tool: str
    text: str
    failed: bool
    seconds: float


class ExecutionRetried(_Event):
    """A request failed, or its words did not validate, for ``reason``; ``attempt`` of the execution starts, from 2."""

    kind: Literal["execution_retried"] = "execution_retried"
    stage: int
    number: int
    attempt: int
    reason: str


class ExecutionFinished(_Event):
    """An executor is done, in whatever order; ``execution.failure`` says whether it failed."""

    kind: Literal["execution_finished"] = "execution_finished"
    stage: int
    execution: Execution[Any]


class InnerEvent(_Event):
    """Something happened in the run of a nested ``Sprint`` that carries out a subtask."""

    kind: Literal["inner_event"] = "inner_event"
    stage: int
    number: int
    event: "Event"


class StageFinished(_Event):
    """A stage is joined: with ``cut`` a consistent cut, from which a journal can resume.

    ``token_ids`` are those that were added to the planner's context since the event before; ``replayed`` if they came
    from a journal. ``cut`` is False while executions of other stages are yet to be joined.
    """

    kind: Literal["stage_finished"] = "stage_finished"
    stage: Stage[Any]
    token_ids: tuple[int, ...]
    text: str
    replayed: bool = False
    cut: bool = True


class RunFinished(_Event):
    """The last event of every run, failed ones too: see ``run.error``."""

    kind: Literal["run_finished"] = "run_finished"
    run: Run[Any, Any]


Event = Annotated[
    RunStarted
    | StageStarted
    | PlannerWrote
    | SubtaskStarted
    | ExecutorWrote
    | ToolCalled
    | ToolFinished
    | ExecutionRetried
    | ExecutionFinished
    | InnerEvent
    | StageFinished
    | RunFinished,
    Field(discriminator="kind"),
]
"""Any event; tell them apart by class or by ``kind``."""

InnerEvent.model_rebuild()
