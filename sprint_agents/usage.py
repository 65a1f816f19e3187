"""The cost of a run; all counts are tokens unless the name says otherwise (arXiv 2506.05745, section 4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)


@dataclass(slots=True, kw_only=True)
class CallUsage:
    """The cost of one request, or the sum of several requests of one role.

    ``generated_tokens`` includes ``tag_tokens``, the tokens whose text is a tag, and ``reasoning_tokens``, those of a
    reasoning model's thoughts. ``retries`` counts the requests that
    repeat a failed or invalid one, ``tool_calls`` the tools that the model called.

    Neither a model nor frozen, since the runtime makes one for every request; never change one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    tag_tokens: int = 0
    reasoning_tokens: int = 0
    retries: int = 0
    tool_calls: int = 0

    @classmethod
    def sum(cls, costs: Sequence[Self]) -> Self:
        """Add up costs."""
        if len(costs) == 1:
            return costs[0]
        return cls(
            calls=sum([cost.calls for cost in costs]),
            prompt_tokens=sum([cost.prompt_tokens for cost in costs]),
            cached_tokens=sum([cost.cached_tokens for cost in costs]),
            generated_tokens=sum([cost.generated_tokens for cost in costs]),
            tag_tokens=sum([cost.tag_tokens for cost in costs]),
            reasoning_tokens=sum([cost.reasoning_tokens for cost in costs]),
            retries=sum([cost.retries for cost in costs]),
            tool_calls=sum([cost.tool_calls for cost in costs]),
        )


CallRole = Literal["plan", "graph", "answer", "execution", "prefix"]
"""What a call of the engine is for; ``prefix`` computes what executions share, or results before they join."""


@dataclass(slots=True, kw_only=True)
class EngineCall:
    """One call of the engine: when it ran, and what it cost.

    Times are seconds from the start of the run. For ``waited`` of the seconds between them the call waited for tokens
    of the budget, and no request was active. ``request_ids`` are several if its completion was continued.

    Like ``CallUsage`` neither a model nor frozen.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    role: CallRole
    request_ids: tuple[str, ...]
    started: float
    ended: float
    waited: float = 0.0
    usage: CallUsage


class StageUsage(BaseModel):
    """The cost of one stage: the sum of its calls, and its part of the critical path.

    ``sequential_tokens`` is the paper's count, which leaves out tags, retries, and the planner's text after its last
    prompt. ``sequential_tokens_strict`` includes them. ``sequential_seconds`` is the path in seconds, without the time
    in which executions waited for a place or for tokens, and ``sequential_requests`` are the ids of its requests.
    """

    model_config = _FROZEN

    total: CallUsage
    sequential_tokens: int
    sequential_tokens_strict: int
    sequential_seconds: float = 0.0
    sequential_requests: tuple[str, ...] = ()


class Usage(BaseModel):
    """The cost of a whole run.

    Attributes:
        sequential_tokens: the critical path as the paper counts it.
        sequential_tokens_strict: the critical path with every generated token on it.
        sequential_seconds: the critical path in seconds: what the run would take if no execution waited for a place or
            for tokens of the budget, and if everything but its engine, executors and tools took no time.
        sequential_requests: the ids of the requests on the critical path in seconds, in order.
        total_tokens: all generated tokens, retries included.
        reasoning_tokens: the part of them that went into a reasoning model's thoughts, by the engine's count or by the
            end of the thoughts in the text.
        prompt_tokens: the context lengths of all requests, added up.
        cached_tokens: the part of ``prompt_tokens`` that the engine read from its cache.
        recomputed_tokens: ``prompt_tokens - cached_tokens``, the part that the engine computed.
        calls: requests sent to the engine.
        stages: finished stages, the answer's included.
        subtasks: executions started.
        width: the most executions of one stage.
        retries: attempts beyond the first, of the planner and the executors, for any reason.
        tool_calls: tool calls, failed ones included.
        failures: executions that failed; those that were stopped because their stage had ended are not counted.
        seconds: wall time; in a resumed run that of all processes that worked on it.
    """

    model_config = _FROZEN

    sequential_tokens: int = 0
    sequential_tokens_strict: int = 0
    sequential_seconds: float = 0.0
    sequential_requests: tuple[str, ...] = ()
    total_tokens: int = 0
    reasoning_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    recomputed_tokens: int = 0
    calls: int = 0
    stages: int = 0
    subtasks: int = 0
    width: int = 0
    retries: int = 0
    tool_calls: int = 0
    failures: int = 0
    seconds: float = 0.0


Branch = tuple[int, int]
"""The plan's tokens up to the end of a prompt, and the tokens of its execution."""


def sequential_tokens(plan_tokens: int, branches: Iterable[Branch]) -> int:
    """Return a stage's part of the critical path as the paper counts it: the text after the last prompt is free.

    A plan without subtasks counts as a whole.

    >>> sequential_tokens(50, [(10, 100), (30, 20)]), sequential_tokens(50, [(10, 20)]), sequential_tokens(50, [])
    (110, 30, 50)
    """
    return max((before + execution for before, execution in branches), default=plan_tokens)


def sequential_tokens_strict(plan_tokens: int, branches: Iterable[Branch]) -> int:
    """Return the longest chain of tokens in a stage of which each had to wait for the one before it.

    The executions run while the planner writes on, so the stage is over when the plan and all of them are.

    >>> sequential_tokens_strict(50, [(10, 100), (30, 20)]), sequential_tokens_strict(50, [(10, 20)])
    (110, 50)
    """
    return max(plan_tokens, sequential_tokens(plan_tokens, branches))


def parallelisation_ratio(subtasks: Sequence[int]) -> float:
    """Return steps per stage, from the number of subtasks of each stage; 1.0 where there is no stage.

    The paper counts the steps of the trace that a trajectory was made from. In a finished trajectory a step is a
    subtask, or a plan without any.

    >>> parallelisation_ratio([3, 0, 2])
    2.0
    """
    return sum(max(1, count) for count in subtasks) / len(subtasks) if subtasks else 1.0
