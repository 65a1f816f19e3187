"""A subtask that is to be carried out, and what is known of it until its execution is recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sprint_agents.dialects.completions import Diagnostic
from sprint_agents.engine import TokenLogprob
from sprint_agents.plan import Execution, Failure, Stage, Subtask, ToolUse
from sprint_agents.state import State
from sprint_agents.usage import CallUsage, EngineCall

from .clock import RunClock

AnyExecution = Execution[Any]
"""Named once, because pydantic looks a parametrised model up each time it is written."""


@dataclass(slots=True)
class Assignment:
    """A subtask of ``stage`` to carry out on ``branch``, the context up to the end of its prompt and its inputs.

    ``costs`` get an item for each request as it ends, interrupted ones too, so that they are known even if the task is
    cancelled; so are the ``stages`` of a policy or a sprint that carries out the subtask. ``diagnostics`` get one for
    each completion that was cut off. ``logprobs`` are those of the last completion.

    ``prompt_closed`` and ``started`` are times of the run's ``clock``; ``started`` is None before the execution starts.
    ``plan_tokens`` are the planner's up to the end of the prompt. ``begun`` is called with its first token, if other
    branches wait for that.
    """

    clock: RunClock
    stage: int
    subtask: Subtask
    branch: State
    prompt_closed: float
    plan_tokens: int = 0
    started: float | None = None
    costs: tuple[CallUsage, ...] = ()
    calls: tuple[EngineCall, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    stages: Sequence[Stage[Any]] = ()
    logprobs: Sequence[TokenLogprob] = ()
    begun: Callable[[], object] | None = None

    def record(
        self,
        text: str,
        value: Any = None,
        *,
        failure: Failure | None = None,
        tool_uses: Sequence[ToolUse] = (),
        transcript: str = "",
    ) -> Execution[Any]:
        """Return the record of the execution, which has ended, with the cost of its requests."""
        ended = self.clock.now()
        execution = AnyExecution(
            number=self.subtask.number,
            prompt=self.subtask.prompt,
            after=self.subtask.after,
            text=text,
            value=value,
            failure=failure,
            usage=CallUsage.sum(self.costs),
            tool_uses=tuple(tool_uses),
            transcript=transcript,
            logprobs=tuple(self.logprobs),
            plan_tokens=self.plan_tokens,
            prompt_closed=self.prompt_closed,
            started=ended if self.started is None else self.started,
            ended=ended,
            calls=self.calls,
        )
        return execution.model_copy(update={"stages": tuple(self.stages)}) if self.stages else execution
