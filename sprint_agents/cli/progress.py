"""The progress of a run, built from its events."""

from dataclasses import dataclass, field
from typing import Literal

from sprint_agents.events import (
    BudgetAwaited,
    Event,
    ExecutionFinished,
    ExecutionRetried,
    ExecutorWrote,
    InnerEvent,
    NoteRead,
    PlannerWrote,
    ReviewAwaited,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    SubtaskStarted,
    ToolCalled,
    ToolFinished,
)
from sprint_agents.plan import Execution, Stage
from sprint_agents.run import Run

_KEPT = 2000
"""How many characters of a growing text are kept, more than any terminal shows."""

Outcome = Literal["running", "finished", "failed", "stopped"]


@dataclass(slots=True)
class BranchProgress:
    """One subtask; ``text`` is the end of its executor's text, or the reason why it failed.

    ``waiting`` is True while its request waits for the budget.
    """

    number: int
    prompt: str
    text: str = ""
    tokens: int = 0
    attempt: int = 1
    outcome: Outcome = "running"
    waiting: bool = False

    def finish(self, execution: Execution[object]) -> None:
        """Apply the finished execution."""
        self.waiting = False
        self.tokens = execution.usage.generated_tokens
        if execution.failure is None:
            self.outcome, self.text = "finished", execution.text or str(execution.value)
        else:
            self.outcome = "stopped" if execution.stopped else "failed"
            self.text = f"{execution.failure.type}: {execution.failure.message}"


@dataclass(slots=True)
class StageProgress:
    """One stage; ``text`` is the end of the planner's text, and ``finished`` the record of a stage that was joined.

    ``waiting`` is True while the planner's request waits for the budget.
    """

    number: int
    text: str = ""
    tokens: int = 0
    branches: dict[int, BranchProgress] = field(default_factory=dict[int, BranchProgress])
    finished: Stage[object] | None = None
    replayed: bool = False
    waiting: bool = False

    def count(self, outcome: Outcome) -> int:
        """Count the branches with this outcome."""
        return sum(branch.outcome == outcome for branch in self.branches.values())


@dataclass(slots=True)
class RunProgress:
    """A run so far; ``update`` it with every event."""

    task: str = ""
    policy: str = ""
    stages: dict[int, StageProgress] = field(default_factory=dict[int, StageProgress])
    run: Run[object] | None = None

    @property
    def tokens(self) -> int:
        """Tokens that the shown stages have generated so far."""
        return sum(
            stage.tokens + sum(branch.tokens for branch in stage.branches.values()) for stage in self.stages.values()
        )

    def update(self, event: Event) -> None:
        """Apply the next event."""
        match event:
            case RunStarted():
                self.task, self.policy = event.task, event.policy
            case StageStarted():
                self.stages[event.stage] = StageProgress(event.stage)  # a retried stage starts again
            case PlannerWrote():
                stage = self.stages[event.stage]
                stage.waiting = False
                stage.text, stage.tokens = (stage.text + event.text)[-_KEPT:], event.tokens
            case SubtaskStarted():
                self._branches(event.stage)[event.number] = BranchProgress(event.number, event.prompt)
            case ExecutorWrote():
                branch = self._branches(event.stage)[event.number]
                branch.waiting = False
                branch.text, branch.tokens = (branch.text + event.text)[-_KEPT:], event.tokens
            case ExecutionRetried():
                branch = self._branches(event.stage)[event.number]
                branch.text, branch.attempt = "", event.attempt
            case BudgetAwaited():
                stage = self.stages[event.stage]
                (stage if event.number is None else stage.branches[event.number]).waiting = True
            case ExecutionFinished():
                self._finish_branch(event.stage, event.execution)
            case StageFinished():
                self._finish_stage(event)
            case ToolCalled() | ToolFinished() | InnerEvent() | NoteRead() | ReviewAwaited():
                pass  # only what the run's own branches write is shown
            case RunFinished():
                self.run = event.run
                for finished in event.run.stages:  # the open stage of a failed run has no event
                    if (stage := self.stages.get(finished.number)) and stage.finished is None:
                        for execution in finished.executions:
                            self._finish_branch(finished.number, execution)
                for branch in (branch for stage in self.stages.values() for branch in stage.branches.values()):
                    branch.outcome = "stopped" if branch.outcome == "running" else branch.outcome

    def _branches(self, stage: int) -> dict[int, BranchProgress]:
        return self.stages[stage].branches

    def _finish_branch(self, stage: int, execution: Execution[object]) -> None:
        # An execution that fails for lack of budget before it starts has no SubtaskStarted event.
        branch = self._branches(stage).setdefault(execution.number, BranchProgress(execution.number, execution.prompt))
        branch.finish(execution)

    def _finish_stage(self, event: StageFinished) -> None:
        """Apply a finished stage; a stage from a journal has no other events."""
        number = event.stage.number
        stage = self.stages.setdefault(number, StageProgress(number))
        stage.finished, stage.replayed, stage.waiting = event.stage, event.replayed, False
        if event.replayed:
            stage.text = (event.stage.plan or event.text)[-_KEPT:]
            for execution in event.stage.executions:
                self._finish_branch(number, execution)
        executed = sum(execution.usage.generated_tokens for execution in event.stage.executions)
        stage.tokens = event.stage.usage.total.generated_tokens - executed
