"""What a policy sees of its run."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from sprint_agents.budget import Ledger, Limits
from sprint_agents.plan import Ask, Stage, Step


@dataclass(slots=True)
class Planning:
    """The run as a policy sees it: the task, the finished stages, and what is left of the budget."""

    task: str
    limits: Limits
    ledger: Ledger
    stages: list[Stage[Any]] = field(default_factory=list[Stage[Any]])

    def ask(self, form: Literal["plan", "chain", "answer"] = "plan") -> Ask:
        """Make a step in which the model writes the next plan, a sequential chain, or the answer."""
        return Ask(form=form)


Policy = Callable[[Planning], AsyncGenerator[Step, Stage[Any]]]
"""Who decides the next stage: an async generator that yields steps and is sent back each finished stage."""
