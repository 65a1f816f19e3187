"""The records of a journal, in the order in which a run writes them.

``path`` says whose stage a record belongs to: empty for the run's own policy; otherwise the stage and the number of the
execution that a nested policy or a sprint carries out, for each level of nesting.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from sprint_agents.budget import Ledger
from sprint_agents.dialects.completions import Diagnostic
from sprint_agents.engine import Chunk
from sprint_agents.errors import BudgetExceeded, JournalError, Superseded, WidthExceeded
from sprint_agents.events import StageFinished
from sprint_agents.plan import Execution, Failure, Plan
from sprint_agents.usage import EngineCall

from .executor import SubtaskOutcome
from .open_stage import KeptCompletion, KeptOutcome, StepForm
from .values import Agents, ValueRecord, record_values, restore_values

Path = tuple[int, ...]
"""Whose stages: a stage and the number of an execution for each level of nesting."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class JournalHeader(_Record):
    """The first line: the run to which the journal belongs, and its ``settings``, which a resumed run must share.

    ``origin`` is the start of the run, from which all times in the journal count.
    """

    journal: Literal[3] = 3
    run_id: str
    task: str
    policy: str
    origin: datetime
    settings: Mapping[str, str]


class Spent(_Record):
    """The costs of the whole run when a record was written, with requests that a failure or the end cut off.

    ``seconds`` is the time of the record.
    """

    tokens: int = 0
    calls: int = 0
    retries: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, ledger: Ledger, seconds: float) -> "Spent":
        """Read the account of a run."""
        return cls(tokens=ledger.tokens, calls=ledger.calls, retries=ledger.retries, seconds=seconds)


class CompletionRecord(_Record):
    """The planner's finished completion, which started on the ids of digest ``on``; for ``form`` see ``form_of``."""

    kind: Literal["completion"]
    path: Path = ()
    stage: int
    form: StepForm
    on: str
    chunks: tuple[Chunk, ...]
    call: EngineCall
    spent: Spent

    def restore(self) -> KeptCompletion:
        """Return the completion."""
        return KeptCompletion(self.form, self.on, self.chunks, self.call)


class KeptExecution(_Record):
    """A finished execution without its values, how each value is read again, and what the join needs."""

    execution: Execution[Any]
    values: tuple[ValueRecord, ...] = ()
    ids: tuple[int, ...] | None = None
    text: str = ""
    content_tokens: int = 0
    all_tokens: int = 0
    diagnostics: tuple[Diagnostic, ...] = ()

    @classmethod
    def of(cls, outcome: SubtaskOutcome, stage: int, agents: Agents) -> "KeptExecution":
        """Record an outcome.

        Raises:
            JournalError: its value can only be lost.
        """
        execution, values = record_values(outcome.execution, stage, agents)
        ids = None if outcome.ids is None else tuple(outcome.ids)
        return cls(
            execution=execution,
            values=values,
            ids=ids,
            text=outcome.text,
            content_tokens=outcome.content_tokens,
            all_tokens=outcome.all_tokens,
            diagnostics=outcome.diagnostics,
        )

    def with_plan_tokens(self, tokens: int) -> "KeptExecution":
        """Correct where its prompt was closed."""
        if tokens == self.execution.plan_tokens:
            return self
        return self.model_copy(update={"execution": self.execution.model_copy(update={"plan_tokens": tokens})})

    def restore(self, agents: Agents) -> SubtaskOutcome:
        """Return the outcome, with its value.

        Raises:
            InvalidResult: a value no longer validates.
        """
        execution = restore_values(self.execution, self.values, agents)
        tokens = self.content_tokens, self.all_tokens
        return SubtaskOutcome(execution, self.ids, self.text, *tokens, diagnostics=self.diagnostics)


class ExecutionRecord(_Record):
    """A finished execution, which started on the ids of digest ``on``."""

    kind: Literal["execution"]
    path: Path = ()
    stage: int
    on: str
    kept: KeptExecution
    spent: Spent

    def restore(self, agents: Agents) -> KeptOutcome:
        """Return the outcome, as ``KeptExecution.restore`` does."""
        return KeptOutcome(self.on, self.kept.restore(agents))


class VerdictRecord(_Record):
    """What ``accept`` said of an execution; the accepted one ended its stage."""

    kind: Literal["verdict"]
    path: Path = ()
    stage: int
    number: int
    accepted: bool
    spent: Spent


class NotesRecord(_Record):
    """What was said to the run before the stage began, which its planner reads first."""

    kind: Literal["notes"]
    path: Path = ()
    stage: int
    notes: tuple[str, ...]
    spent: Spent


class ReviewRecord(_Record):
    """The verdict on a ``proposed`` plan: the ``plan`` to carry out instead, if it is another one."""

    kind: Literal["review"]
    path: Path = ()
    stage: int
    proposed: Plan
    plan: Plan | None = None
    spent: Spent


class StageRecord(_Record):
    """A finished stage. Its executions are those with these ``numbers``: recorded before, or ``others``.

    ``plan_tokens`` are the executions' once more, since some servers count tokens only at the end of a completion.
    ``out_of_budget`` if the budget stopped or cut off a part of it, which a larger one may let run.
    """

    kind: Literal["stage"]
    path: Path = ()
    finished: StageFinished
    numbers: tuple[int, ...] = ()
    plan_tokens: tuple[int, ...] = ()
    others: tuple[KeptExecution, ...] = ()
    out_of_budget: bool = False
    spent: Spent

    @property
    def stage(self) -> int:
        """The number of the stage."""
        return self.finished.stage.number


class ResetRecord(_Record):
    """A nested policy or a sprint begins again, so the earlier records of its ``path`` and below do not count."""

    kind: Literal["reset"]
    path: Path
    spent: Spent


class EndRecord(_Record):
    """The end of the run in one process; without an ``error`` it has its answer."""

    kind: Literal["end"]
    error: Failure | None = None
    spent: Spent


StepRecord = NotesRecord | CompletionRecord | ReviewRecord | ExecutionRecord | VerdictRecord | StageRecord
"""A record of one stage."""

_REFUSALS = {error.__name__ for error in (BudgetExceeded, Superseded, WidthExceeded)}

AnyRecord = Annotated[StepRecord | ResetRecord | EndRecord, Field(discriminator="kind")]

any_record: TypeAdapter[AnyRecord] = TypeAdapter(AnyRecord, config=ConfigDict(defer_build=True))


def dump(record: BaseModel) -> bytes:
    """Return a record as JSON, without what has its default value.

    Raises:
        JournalError: a text holds half of a surrogate pair.
    """
    try:
        return record.model_dump_json(exclude_defaults=not isinstance(record, JournalHeader)).encode()
    except ValueError as error:
        raise JournalError(f"the journal cannot hold a record: {error}") from error


def count_subtasks(executions: Sequence[Execution[Any]]) -> int:
    """Count executions that were started, with those of the stages that nested policies and sprints had."""
    inner = [stage.executions for execution in executions for stage in execution.stages]
    return sum(not _never_started(execution) for execution in executions) + sum(map(count_subtasks, inner))


def _never_started(execution: Execution[Any]) -> bool:
    """Say whether an execution was refused by a limit, or given up before it had a place: it took no time."""
    refused = execution.failure is not None and execution.failure.type in _REFUSALS
    return refused and execution.started == execution.ended and not (execution.calls or execution.stages)
