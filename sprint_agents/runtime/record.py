"""The record of a run: its stages, and its usage as counted by the stages and by the budget's ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from sprint_agents.plan import Failure
from sprint_agents.policies import Planning
from sprint_agents.run import Run
from sprint_agents.state import State
from sprint_agents.usage import Usage

from .clock import RunClock

AnyRun = Run[Any, Any]
"""Named once, because pydantic looks a parametrised model up each time it is written."""


@dataclass(slots=True)
class RunRecord:
    """Makes the record of a run, finished or failed; it ``started``, in this process at least, at that time."""

    run_id: str
    task: str
    policy: str
    planning: Planning
    planner: State
    clock: RunClock
    started: float
    metadata: Mapping[str, JsonValue]

    def make(self, answer: Any = None, *, verified: bool | None = None, error: Failure | None = None) -> Run[Any, Any]:
        """Return the record of the run so far."""
        return AnyRun(
            id=self.run_id,
            task=self.task,
            policy=self.policy,
            origin=self.clock.origin,
            answer=answer,
            verified=verified,
            stages=tuple(self.planning.stages),
            usage=self._usage(),
            error=error,
            transcript=self.planner.context.text,
            metadata=self.metadata,
        )

    def _usage(self) -> Usage:
        stages, ledger = self.planning.stages, self.planning.ledger
        totals = [stage.usage.total for stage in stages]
        prompt, cached = sum(cost.prompt_tokens for cost in totals), sum(cost.cached_tokens for cost in totals)
        return Usage(
            sequential_tokens=sum(stage.usage.sequential_tokens for stage in stages),
            sequential_tokens_strict=sum(stage.usage.sequential_tokens_strict for stage in stages),
            sequential_seconds=sum(stage.usage.sequential_seconds for stage in stages),
            sequential_requests=tuple(one for stage in stages for one in stage.usage.sequential_requests),
            total_tokens=ledger.tokens,
            reasoning_tokens=sum(cost.reasoning_tokens for cost in totals),
            prompt_tokens=prompt,
            cached_tokens=cached,
            recomputed_tokens=prompt - cached,
            calls=ledger.calls,
            stages=sum(not stage.interrupted for stage in stages),
            subtasks=ledger.subtasks,
            width=max((len(stage.executions) for stage in stages), default=0),
            retries=ledger.retries,
            tool_calls=sum(cost.tool_calls for cost in totals),
            failures=sum(not execution.stopped for stage in stages for execution in stage.failures),
            seconds=self.clock.now() - min([self.started, *(stage.started for stage in stages[:1])]),
        )
