"""A policy's view of its run."""

import inspect
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

from sprint_agents.budget import Ledger, Limits
from sprint_agents.errors import PolicyError
from sprint_agents.plan import Accept, Ask, Attempts, BranchingOptions, Join, Stage, Step


@dataclass(slots=True)
class Planning:
    """The run as a policy sees it: the task, the finished stages, and the account of the budget.

    ``depth`` is 0 for the policy of a run, 1 for a policy nested in it, and so on. ``quote`` makes text that a model
    wrote safe to use in a plan, where it could be read as tags otherwise.
    """

    task: str
    limits: Limits
    ledger: Ledger
    stages: list[Stage[Any]] = field(default_factory=list[Stage[Any]])
    depth: int = 0
    quote: Callable[[str], str] = str

    @property
    def pending(self) -> list[int]:
        """The numbers of the stages whose executions have not joined yet, oldest first."""
        return [stage.number for stage in self.stages if stage.pending]

    def ask(self, form: Literal["plan", "chain", "answer"] = "plan", **options: Unpack[BranchingOptions]) -> Ask:
        """Return a step in which the model writes a plan, one sequential chain of thought, or the answer.

        ``options`` apply to the subtasks of a plan: see ``Ask``.
        """
        return Ask(form=form, **options)

    def attempt(self, *policies: "Policy", accept: Accept | None = None, share: float = 1.0) -> Attempts:
        """Return a step in which each policy solves the task on its own fork, all at the same time."""
        return Attempts(policies=policies, accept=accept, share=share)

    def join(self, stage: int | None = None) -> Join:
        """Return a step that waits for a pending stage (by default the oldest) and joins its executions."""
        return Join(stage=stage)


Policy = Callable[[Planning], AsyncGenerator[Step, Stage[Any]]]
"""An async generator function that decides each next stage: it yields steps and is sent back the finished stages."""


def steps_of(policy: Policy, planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
    """Call a policy and return its generator of steps.

    Raises:
        PolicyError: the policy is not an async generator function.
    """
    steps = policy(planning)
    if not inspect.isasyncgen(steps):
        if inspect.iscoroutine(steps):
            steps.close()  # it is never awaited, which Python would warn about
        raise PolicyError(
            f"a policy is an async generator function and {policy!r} returned {type(steps).__name__}: "
            "write it as `async def policy(planning): stage = yield planning.ask(); yield Answer(value=stage.answer)`"
        )
    return steps
