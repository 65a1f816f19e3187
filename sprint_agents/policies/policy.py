"""Policies: the type, their view of a run, and the naming of policies with parameters."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Literal, ParamSpec, Unpack

from sprint_agents.arguments import checked
from sprint_agents.budget import Ledger, Limits
from sprint_agents.confidence import ConfidenceBound
from sprint_agents.errors import PolicyError
from sprint_agents.functions import Threads, call_function
from sprint_agents.plan import Accept, Ask, Attempts, BranchingOptions, Execution, Join, Stage, Step

P = ParamSpec("P")


async def call_alone(function: Callable[..., Any], value: Any) -> Any:
    """Call a function outside of a run, without a time limit."""
    with Threads() as threads:
        return await call_function(function, value, threads=threads)


@dataclass(slots=True)
class Planning:
    """The run as a policy sees it: the task, the finished stages, and the account of the budget.

    ``depth`` is 0 for the policy of a run, 1 for a policy nested in it, and so on. ``inputs`` are the executions that
    the subtask of a nested policy waited for. ``await planning.call(function, value)`` calls a function that may
    compute or wait for long, async or not, as the run does, since a policy itself runs on the event loop. ``deps`` are
    those of the run.
    """

    task: str
    limits: Limits
    ledger: Ledger
    stages: list[Stage[Any]] = field(default_factory=list[Stage[Any]])
    depth: int = 0
    inputs: tuple[Execution[Any], ...] = ()
    call: Callable[[Callable[..., Any], Any], Awaitable[Any]] = call_alone
    deps: Any = None

    @property
    def pending(self) -> list[int]:
        """The numbers of the stages whose executions have not joined yet, oldest first."""
        return [stage.number for stage in self.stages if stage.pending]

    def ask(
        self, form: Literal["plan", "graph", "chain", "answer"] = "plan", **options: Unpack[BranchingOptions]
    ) -> Ask:
        """Return a step in which the model writes a plan, one sequential chain of thought, or the answer.

        A ``graph`` is a plan whose subtasks may wait for earlier ones.

        ``options`` apply to the subtasks of a plan: see ``Ask``.
        """
        return Ask(form=form, **options)

    def attempt(
        self,
        *policies: "Policy",
        accept: Accept | None = None,
        share: float = 1.0,
        logprobs: int | None = None,
        bound: ConfidenceBound | None = None,
    ) -> Attempts:
        """Return a step in which each policy solves the task on its own fork, all at the same time."""
        return Attempts(policies=policies, accept=accept, share=share, logprobs=logprobs, bound=bound)

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


def name_of(policy: object) -> str:
    """Return the name that identifies a policy in records and journals."""
    return getattr(policy, "__name__", type(policy).__name__)


def factory(make: Callable[P, Policy]) -> Callable[P, Policy]:
    """Name each policy after the call of ``make`` that returned it; ``make`` must return a new function each time.

    >>> @factory
    ... def parts(count: int = 2) -> Policy:
    ...     async def policy(planning):
    ...         yield
    ...     return policy
    >>> name_of(parts()), name_of(parts(count=3))
    ('parts', 'parts(count=3)')
    """
    checked_make = checked(make)

    @wraps(make)
    def named(*values: P.args, **options: P.kwargs) -> Policy:
        policy = checked_make(*values, **options)
        arguments = [_text(value) for value in values] + [f"{name}={_text(value)}" for name, value in options.items()]
        policy.__name__ = f"{name_of(make)}({', '.join(arguments)})" if arguments else name_of(make)
        return policy

    named.makes_policies = True  # type: ignore[attr-defined] - tells a policy from a function that makes some
    return named


def _text(value: object) -> str:
    return name_of(value) if callable(value) else repr(value)
