"""What a policy sees of its run."""

import inspect
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

from sprint_agents.budget import Ledger, Limits
from sprint_agents.errors import PolicyError
from sprint_agents.plan import Accept, Ask, Attempts, BranchingOptions, Join, Stage, Step


@dataclass(slots=True)
class Planning:
    """The run as a policy sees it: the task, the finished stages, and what is left of the budget.

    ``depth`` is 0 for a run's own policy, and one more for each policy that this one works for. ``quote`` makes a
    model's words safe for a plan of the policy's own.
    """

    task: str
    limits: Limits
    ledger: Ledger
    stages: list[Stage[Any]] = field(default_factory=list[Stage[Any]])
    depth: int = 0
    quote: Callable[[str], str] = str

    @property
    def pending(self) -> list[int]:
        """The stages whose executions are yet to be joined, the oldest first."""
        return [stage.number for stage in self.stages if stage.pending]

    def ask(self, form: Literal["plan", "chain", "answer"] = "plan", **options: Unpack[BranchingOptions]) -> Ask:
        """Make a step in which the model writes the next plan, a sequential chain, or the answer.

        ``options`` say what becomes of a plan's subtasks, see ``Ask``.
        """
        return Ask(form=form, **options)

    def attempt(self, *policies: "Policy", accept: Accept | None = None, share: float = 1.0) -> Attempts:
        """Make a step in which each policy solves the task on a fork of its own, all at the same time."""
        return Attempts(policies=policies, accept=accept, share=share)

    def join(self, stage: int | None = None) -> Join:
        """Make a step that waits for a stage that did not wait (the oldest by default) and joins its executions."""
        return Join(stage=stage)


Policy = Callable[[Planning], AsyncGenerator[Step, Stage[Any]]]
"""Who decides the next stage: an async generator that yields steps and is sent back each finished stage."""


def steps_of(policy: Policy, planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
    """Begin a policy.

    Raises:
        PolicyError: it is no async generator function.
    """
    steps = policy(planning)
    if not inspect.isasyncgen(steps):
        if inspect.iscoroutine(steps):
            steps.close()  # nobody will wait for it
        raise PolicyError(
            f"a policy is an async generator function and {policy!r} returned {type(steps).__name__}: "
            "write it as `async def policy(planning): stage = yield planning.ask(); yield Answer(value=stage.answer)`"
        )
    return steps
