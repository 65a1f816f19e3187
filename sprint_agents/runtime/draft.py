"""A stage on its way from its plan to its record, and its part of the critical path (PAPER, Metrics)."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from sprint_agents import metrics
from sprint_agents.dialects.diagnostics import Diagnostic
from sprint_agents.plan import Keep, Stage
from sprint_agents.usage import CallUsage, StageUsage

from .branches import Branches
from .executed import Executed
from .trunk import Trunk

AnyStage = Stage[Any]
"""Named once: pydantic looks a parametrised model up each time it is written."""

_NOTHING = CallUsage()


@dataclass(frozen=True, slots=True)
class Draft:
    """A stage whose plan, or other text, is written; ``planner`` is what that cost."""

    number: int
    plan: str = ""
    planner: CallUsage = _NOTHING
    answer: str | None = None
    diagnostics: Sequence[Diagnostic] = ()
    trunk: Trunk | None = None
    branches: Branches | None = None

    def pending(self) -> Stage[Any]:
        """Make the record of a stage whose executions are yet to be joined."""
        assert self.branches is not None
        return AnyStage(
            number=self.number,
            plan_number=self.number,
            plan=self.plan,
            pending=self.branches.numbers,
            diagnostics=tuple(self.diagnostics),
            usage=StageUsage(
                total=self.planner,
                sequential_tokens=self.planner.generated_tokens - self.planner.tag_tokens,
                sequential_tokens_strict=self.planner.generated_tokens,
            ),
        )

    def finished(self, executed: Sequence[Executed] = ()) -> Stage[Any]:
        """Make the record of a stage that waited for its executions."""
        planner = self.planner
        content, strict = self.branches.paths() if self.branches else ([], [])
        return self._stage(
            executed,
            sequential=metrics.sequential_tokens(planner.generated_tokens - planner.tag_tokens, content),
            strict=metrics.sequential_tokens_strict(planner.generated_tokens, strict),
        )

    def joined(self, executed: Sequence[Executed], *, since: Sequence[Stage[Any]]) -> Stage[Any]:
        """Make the record of a stage that did not wait; ``since`` are the stages from this one on.

        The critical path of those hides what it can of the executions; the rest is this stage's own.
        """
        assert self.branches is not None
        pending = self.pending().usage
        content, strict = self.branches.paths()
        passed = sum(stage.usage.sequential_tokens for stage in since)
        passed_strict = sum(stage.usage.sequential_tokens_strict for stage in since)
        longest = metrics.sequential_tokens(0, content)
        longest_strict = metrics.sequential_tokens(0, strict)
        return self._stage(
            executed,
            sequential=pending.sequential_tokens + max(0, longest - passed),
            strict=pending.sequential_tokens_strict + max(0, longest_strict - passed_strict),
        )

    def _stage(self, executed: Sequence[Executed], *, sequential: int, strict: int) -> Stage[Any]:
        commits = self.trunk.costs if self.trunk else ()
        costs = [self.planner, *commits, *(item.execution.usage for item in executed)]
        return AnyStage(
            number=self.number,
            plan_number=self.number,
            plan=self.plan,
            executions=tuple(item.execution for item in executed),
            answer=self.answer,
            accepted=self.branches.accepted if self.branches else None,
            diagnostics=tuple(self.diagnostics),
            usage=StageUsage(
                total=CallUsage.sum(costs),
                sequential_tokens=sequential,
                sequential_tokens_strict=strict,
            ),
        )


@dataclass(frozen=True, slots=True)
class Pending:
    """A stage whose executions run on after its plan is written; leaving ``owned`` cancels them."""

    draft: Draft
    branches: Branches
    keep: Keep | None
    owned: AsyncExitStack
