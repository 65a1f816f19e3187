"""Hooks: functions of yours that a run awaits around its requests, executions and stages."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from .arguments import checked
from .plan import Ask, Attempts, Execution, Plan, Stage, Subtask
from .run_context import RunContext
from .usage import EngineCall

T = TypeVar("T")

HookName = Literal[
    "before_request", "after_request", "before_execution", "after_execution", "before_stage", "after_stage"
]
"""When a hook is called."""

_NAMES: tuple[HookName, ...] = get_args(HookName)

Hook = Callable[[T], object] | Callable[[RunContext[Any], T], object]
"""A function, async or not, that the run waits for; what it returns is ignored."""


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request that is about to be sent: its role, and the tokens of its prompt and at most of its completion."""

    role: str
    prompt_tokens: int
    max_tokens: int


@checked
@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Functions that a run awaits, each with what it is called for, and first the ``RunContext`` if it takes one.

    What a ``before`` hook raises prevents what it is called for: a stage or a request of the planner ends the run with
    ``FunctionError``; an execution or its request fails, which is data. What an ``after`` hook raises is a diagnostic
    of the stage, of kind ``hook_failed``, since a finished execution is kept. Each call is bounded by
    ``Limits(call_seconds=…)``. Stages and executions that a journal replays call no hooks.

    Unlike listeners, which hear all events but are not waited for, hooks may be async, and may refuse.

    >>> from sprint_agents import Sprint
    >>> from sprint_agents.testing import FakeEngine
    >>> seen = []
    >>> engine = FakeEngine("<Final_answer>4</Final_answer>")
    >>> run = Sprint(engine, hooks=Hooks(before_request=seen.append)).run_sync("What is 2+2?")
    >>> seen
    [PendingRequest(role='plan', prompt_tokens=7, max_tokens=8000)]
    """

    before_request: Hook[PendingRequest] | None = None
    after_request: Hook[EngineCall] | None = None
    before_execution: Hook[Subtask] | None = None
    after_execution: Hook[Execution[Any]] | None = None
    before_stage: Hook[Plan | Ask | Attempts] | None = None
    after_stage: Hook[Stage[Any]] | None = None

    def __iter__(self) -> Iterator[tuple[HookName, Any]]:
        """Yield the name and the function of each hook that is set."""
        for name in _NAMES:
            if (hook := getattr(self, name)) is not None:
                yield name, hook
