"""A run as a watcher sees it at one moment, built from its events."""

from dataclasses import dataclass, field
from typing import Literal

from sprint_agents.events import (
    Event,
    ExecutionFinished,
    ExecutionRetried,
    ExecutorWrote,
    InnerEvent,
    PlannerWrote,
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
from sprint_agents.usage import Usage

_KEPT = 2000
"""Characters of a growing text that are kept: more than any terminal shows of it."""

Outcome = Literal["running", "finished", "failed", "stopped"]


@dataclass(slots=True)
class BranchView:
    """One subtask; ``text`` is the end of what its executor wrote, or why it failed."""

    number: int
    prompt: str
    text: str = ""
    tokens: int = 0
    attempt: int = 1
    outcome: Outcome = "running"

    def finish(self, execution: Execution[object]) -> None:
        """Take what became of it."""
        self.tokens = execution.usage.generated_tokens
        if execution.failure is None:
            self.outcome, self.text = "finished", execution.text or str(execution.value)
        else:
            self.outcome, self.text = "failed", f"{execution.failure.type}: {execution.failure.message}"


@dataclass(slots=True)
class StageView:
    """One stage; ``text`` is the end of what the planner wrote in it, ``finished`` its record once it is joined."""

    number: int
    text: str = ""
    tokens: int = 0
    branches: dict[int, BranchView] = field(default_factory=dict[int, BranchView])
    finished: Stage[object] | None = None
    replayed: bool = False

    def count(self, outcome: Outcome) -> int:
        """How many branches are in that state."""
        return sum(branch.outcome == outcome for branch in self.branches.values())


@dataclass(slots=True)
class RunView:
    """A run so far; feed it every event."""

    task: str = ""
    policy: str = ""
    stages: dict[int, StageView] = field(default_factory=dict[int, StageView])
    run: Run[object] | None = None

    @property
    def tokens(self) -> int:
        """Tokens generated so far by what is on view."""
        return sum(
            stage.tokens + sum(branch.tokens for branch in stage.branches.values()) for stage in self.stages.values()
        )

    def see(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case RunStarted():
                self.task, self.policy = event.task, event.policy
            case StageStarted():
                self.stages[event.stage] = StageView(event.stage)  # a stage that is tried again starts anew
            case PlannerWrote():
                stage = self.stages[event.stage]
                stage.text, stage.tokens = (stage.text + event.text)[-_KEPT:], event.tokens
            case SubtaskStarted():
                self._branches(event.stage)[event.number] = BranchView(event.number, event.prompt)
            case ExecutorWrote():
                branch = self._branches(event.stage)[event.number]
                branch.text, branch.tokens = (branch.text + event.text)[-_KEPT:], event.tokens
            case ExecutionRetried():
                branch = self._branches(event.stage)[event.number]
                branch.text, branch.attempt = "", event.attempt
            case ExecutionFinished():
                self._finish_branch(event.stage, event.execution)
            case StageFinished():
                self._finish_stage(event)
            case ToolCalled() | ToolFinished() | InnerEvent():
                pass  # the tree shows the branches of the run itself
            case RunFinished():
                self.run = event.run
                for branch in (branch for stage in self.stages.values() for branch in stage.branches.values()):
                    branch.outcome = "stopped" if branch.outcome == "running" else branch.outcome

    def _branches(self, stage: int) -> dict[int, BranchView]:
        return self.stages[stage].branches

    def _finish_branch(self, stage: int, execution: Execution[object]) -> None:
        # One that fails before it starts, for want of budget, was never announced.
        branch = self._branches(stage).setdefault(execution.number, BranchView(execution.number, execution.prompt))
        branch.finish(execution)

    def _finish_stage(self, event: StageFinished) -> None:
        """Take a finished stage; one from a journal comes with no other event."""
        number = event.stage.number
        stage = self.stages.setdefault(number, StageView(number))
        stage.finished, stage.replayed = event.stage, event.replayed
        if event.replayed:
            stage.text = event.stage.plan or event.text
            for execution in event.stage.executions:
                self._finish_branch(number, execution)
        executed = sum(execution.usage.generated_tokens for execution in event.stage.executions)
        stage.tokens = event.stage.usage.total.generated_tokens - executed


def speed_up(usage: Usage) -> float:
    """How many times more tokens were generated than had to wait for one another; 1.0 where there were none."""
    return usage.total_tokens / usage.sequential_tokens_strict if usage.sequential_tokens_strict else 1.0
