"""What one run may be given, besides its task: the options of ``Sprint.run``, ``stream`` and ``map``."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import TypedDict

from sprint_agents.arguments import check_argument
from sprint_agents.budget import Budget, Limits
from sprint_agents.engine import Sampling
from sprint_agents.errors import ConfigurationError
from sprint_agents.plan import Plan
from sprint_agents.run import Run
from sprint_agents.run_context import DepsT, RunContext, takes_context, wanted_deps
from sprint_agents.steering import Steering

_Verdict = Plan | Awaitable[Plan | None] | None
Review = Callable[[Plan], _Verdict] | Callable[[RunContext[Any], Plan], _Verdict]
"""Returns the plan that is to be carried out instead of the one that it sees; None for the same."""


class RunOptions(TypedDict, Generic[DepsT], total=False):
    """The options of one run, all keyword arguments of ``Sprint.run``, ``stream``, ``map`` and ``run_sync``.

    Attributes:
        deps: what your functions read as ``RunContext.deps``; inner sprints have it too.
        budget: instead of the ``Sprint``'s, as are ``limits`` and ``sampling``. Agents with their own sampling keep it.
        limits: bounds on the parts of the run.
        sampling: how tokens are drawn.
        seed: the seed of all sampling in the run, the agents' own included.
        review: sees each plan of the run's own policy before any of its subtasks starts, and may return another plan.
            ``"pause"`` ends the run with ``PlanPaused``; a plan is the reviewed one, with which such a run continues.
        after: a finished run that this one continues as a conversation, on its tokens.
        steering: says something to the run while it is in progress; for one run.
        metadata: what you want to find in ``Run.metadata`` again, as JSON: a user's id, a ticket.
    """

    deps: DepsT
    budget: Budget | None
    limits: Limits | None
    sampling: Sampling | None
    seed: int | None
    review: Review | Plan | Literal["pause"] | None
    after: Run[Any, Any] | None
    steering: Steering | None
    metadata: Mapping[str, JsonValue] | None


_TYPES: dict[str, Any] = {
    "budget": Budget | None,
    "limits": Limits | None,
    "sampling": Sampling | None,
    "seed": int | None,
    "review": Review | Plan | Literal["pause"] | None,
    "after": Run | None,
    "steering": Steering | None,
    "metadata": Mapping[str, Any] | None,
}


@dataclass(slots=True)
class PlanReview:
    """Who reviews the plans of a run: a function; or another process, to which a plan of ours answers."""

    reviewer: Review | Plan | Literal["pause"]


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What the functions of a run and its record get from the caller."""

    deps: Any = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    review: Review | Plan | Literal["pause"] | None = None
    steering: Steering | None = None
    after: Run[Any, Any] | None = None

    @property
    def inner(self) -> "RunInputs":
        """The inputs of a sprint that carries out a subtask: whoever reviews and steers does so for the whole run."""
        return RunInputs(self.deps, self.metadata)

    def context(self, run_id: str, task: str, *, stage: int | None, number: int | None) -> RunContext[Any]:
        """Return what a function of the run is called with."""
        return RunContext(deps=self.deps, run_id=run_id, task=task, metadata=self.metadata, stage=stage, number=number)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of a run that do not exist, or have a wrong value.

    Raises:
        TypeError: there is no such option.
        ConfigurationError: a value is of another type, or metadata is not JSON.
    """
    if unknown := [name for name in options if name not in RunOptions.__annotations__]:
        raise TypeError(f"a run has no option {unknown[0]!r}: it has {', '.join(RunOptions.__annotations__)}")
    for name, value in options.items():
        if name in _TYPES:
            check_argument(f"{name}=", value, _TYPES[name])
    try:
        to_json(options.get("metadata"))
    except PydanticSerializationError as error:
        raise ConfigurationError(f"metadata= is not JSON: {error}") from error


class WantedDeps(NamedTuple):
    """A function ``what`` that reads ``RunContext.deps`` as this type."""

    what: str
    type: Any


def find_wanted(functions: Sequence[tuple[str, Callable[..., Any] | None]]) -> list[WantedDeps]:
    """Return which functions, each after its name, want ``deps`` of a run."""
    return [WantedDeps(what, wanted_deps(one)) for what, one in functions if one is not None and takes_context(one)]


def check_deps(deps: object, wanted: Sequence[WantedDeps]) -> None:
    """Refuse a run whose functions would not get the ``deps`` that they want.

    Raises:
        ConfigurationError: they are missing, or of another type.
    """
    for what, kind in wanted:
        try:
            check_argument("deps=", deps, kind)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}, which {what} reads as RunContext.deps") from None


def check_review(review: Review | Plan | str | None, *, journal: bool, paused: bool = True) -> None:
    """Refuse a review by another process for a run that has no ``journal``, or that has not ``paused``.

    Raises:
        ConfigurationError: it cannot take place.
    """
    if isinstance(review, Plan | str) and not journal:
        raise ConfigurationError("a review by another process needs a journal, which keeps the plan: pass journal=")
    if isinstance(review, Plan) and not paused:
        raise ConfigurationError(
            "review= is a plan, but the run of this journal has not paused, so there is none that it could answer: "
            "pass review='pause' first"
        )
