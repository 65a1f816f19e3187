"""What a run cost; all counts are tokens unless the name says otherwise (PAPER, Metrics)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

_FROZEN = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallUsage:
    """One request, or several of one role summed.

    ``generated_tokens`` includes ``tag_tokens``: those whose text is a tag. ``retries`` are the requests that were sent
    because an earlier one failed or its words did not validate; ``tool_calls`` what the model called in them.

    A dataclass rather than a model, since the runtime makes one for every request.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    tag_tokens: int = 0
    retries: int = 0
    tool_calls: int = 0

    @classmethod
    def sum(cls, costs: Sequence[Self]) -> Self:
        """Add up; a single one is its own sum."""
        if len(costs) == 1:
            return costs[0]
        return cls(
            calls=sum([cost.calls for cost in costs]),
            prompt_tokens=sum([cost.prompt_tokens for cost in costs]),
            cached_tokens=sum([cost.cached_tokens for cost in costs]),
            generated_tokens=sum([cost.generated_tokens for cost in costs]),
            tag_tokens=sum([cost.tag_tokens for cost in costs]),
            retries=sum([cost.retries for cost in costs]),
            tool_calls=sum([cost.tool_calls for cost in costs]),
        )


class StageUsage(BaseModel):
    """One stage: all of its calls, and its part of the critical path.

    ``sequential_tokens`` is the paper's figure: tags, retries, and what the planner wrote after its last prompt do not
    count. In ``sequential_tokens_strict`` they do.
    """

    model_config = _FROZEN

    total: CallUsage
    sequential_tokens: int
    sequential_tokens_strict: int


class Usage(BaseModel):
    """What a whole run cost.

    Attributes:
        sequential_tokens: the critical path as the paper counts it.
        sequential_tokens_strict: the critical path with everything the model generated on it.
        total_tokens: everything generated, retries included.
        prompt_tokens: sum of all requests' contexts.
        cached_tokens: the part of ``prompt_tokens`` that the engine read from its cache.
        recomputed_tokens: ``prompt_tokens - cached_tokens``, what the engine had to compute.
        calls: requests sent to the engine.
        stages: finished stages, the answer's included.
        subtasks: executions started.
        width: most executions of one stage.
        retries: attempts beyond the first, of planner and executors, for whatever reason.
        tool_calls: calls of tools, failed ones too.
        failures: executions without a value.
        seconds: wall time.
    """

    model_config = _FROZEN

    sequential_tokens: int = 0
    sequential_tokens_strict: int = 0
    total_tokens: int = 0
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
