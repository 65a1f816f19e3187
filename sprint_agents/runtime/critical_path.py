"""The critical path of a stage: the longest chain of work in which each part had to wait for the one before.

It is measured in tokens, as the paper counts them and strictly, and in seconds. A branch begins when its prompt and all
that it waited for are there. If prompt 1 ends at token 10 and takes 50 tokens to execute, and prompt 2, which waits for
it, ends at token 20, branch 2 begins at 60.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sprint_agents.plan import Execution, Stage
from sprint_agents.usage import Branch, CallUsage, EngineCall, StageUsage, sequential_tokens, sequential_tokens_strict

from .executor import SubtaskOutcome


@dataclass(slots=True)
class BranchWork:
    """A branch on a path through its stage: its ``outcome``, after ``content_tokens`` of the plan, without tags."""

    outcome: SubtaskOutcome
    content_tokens: int
    after: Sequence[int]


@dataclass(slots=True)
class _Path:
    """The longest path that ends with an execution: where that begins, and its own length; ``previous`` in seconds."""

    execution: Execution[Any]
    content: Branch
    strict: Branch
    seconds: tuple[float, float]
    previous: "_Path | None"

    @property
    def requests(self) -> tuple[str, ...]:
        """The ids of the requests of all executions on the path."""
        before = self.previous.requests if self.previous else ()
        own = [one for call in self.execution.calls for one in call.request_ids]
        inner = [one for stage in self.execution.stages for one in stage.usage.sequential_requests]
        return (*before, *own, *inner)


def measure(
    total: CallUsage,
    call: EngineCall | None,
    works: Iterable[BranchWork],
    *,
    since: Sequence[Stage[Any]] = (),
) -> StageUsage:
    """Return the usage of a stage.

    If the stage was pending, the critical path of the stages ``since`` hides what it can of the executions. If the
    longest execution ends at token 100, and the planner wrote 30 tokens here and 50 in later stages, the stage's part
    of the critical path is 30 + (100 - 80).

    Args:
        total: all that the stage cost.
        call: the planner's; None if it wrote nothing.
        works: the branches on a path, each after those that it waited for.
        since: the records of the stages from this one on, if it was pending.
    """
    planned = max(0.0, call.ended - call.started - call.waited) if call else 0.0
    paths = _paths(works, call, planned)
    strict = call.usage.generated_tokens if call else 0
    content = strict - call.usage.tag_tokens if call else 0
    longest = max(paths, key=lambda path: sum(path.seconds), default=None)
    reached = sum(longest.seconds) if longest else 0.0
    contents, stricts = [path.content for path in paths], [path.strict for path in paths]
    if since:
        content += max(0, sequential_tokens(0, contents) - sum(stage.usage.sequential_tokens for stage in since))
        strict += max(0, sequential_tokens(0, stricts) - sum(s.usage.sequential_tokens_strict for s in since))
        hidden = sum(stage.usage.sequential_seconds for stage in since)
        seconds = planned + max(0.0, reached - hidden)
        on_path = longest if reached > hidden else None
    else:
        content, strict = sequential_tokens(content, contents), sequential_tokens_strict(strict, stricts)
        seconds, on_path = max(planned, reached), longest if reached > planned else None
    return StageUsage(
        total=total,
        sequential_tokens=content,
        sequential_tokens_strict=strict,
        sequential_seconds=seconds,
        sequential_requests=(*(call.request_ids if call else ()), *(on_path.requests if on_path else ())),
    )


def _paths(works: Iterable[BranchWork], call: EngineCall | None, planned: float) -> list[_Path]:
    """Return the longest path to the end of each branch; the plan took ``planned`` seconds of ``call``."""
    paths: dict[int, _Path] = {}
    written_from = call.started + call.waited if call else 0.0
    for work in works:
        outcome, execution = work.outcome, work.outcome.execution
        content, strict = work.content_tokens, execution.plan_tokens
        seconds, previous = 0.0, None
        if call is not None:
            # A plan that was kept is read again at once, so its prompts close when its own call has long ended.
            seconds = min(max(0.0, execution.prompt_closed - written_from), planned)
        for number in work.after:
            if (other := paths.get(number)) is not None:
                content, strict = max(content, sum(other.content)), max(strict, sum(other.strict))
                if sum(other.seconds) > seconds:
                    seconds, previous = sum(other.seconds), other
        own = execution.ended - execution.started - _waited(execution)
        paths[execution.number] = _Path(
            execution,
            (content, outcome.content_tokens),
            (strict, outcome.all_tokens),
            (seconds, max(0.0, own)),
            previous,
        )
    return list(paths.values())


def _waited(execution: Execution[Any]) -> float:
    """Return how many of its seconds an execution waited: for tokens, or in an inner stage for a place."""
    waited = 0.0
    for call in execution.calls:
        waited += call.waited
    for stage in execution.stages:
        waited += stage.ended - stage.started - stage.usage.sequential_seconds
    return waited
