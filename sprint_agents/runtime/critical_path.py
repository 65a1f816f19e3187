"""The critical path of a stage: the longest chain of work in which each part had to wait for the one before.

It is measured in tokens, as the paper counts them and strictly, and in seconds. A branch begins when its prompt and all
that it waited for are there. If prompt 1 ends at token 10 and takes 50 tokens to execute, and prompt 2, which waits for
it, ends at token 20, branch 2 begins at 60.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sprint_agents.plan import Execution, Stage
from sprint_agents.usage import Branch, CallUsage, EngineCall, StageUsage, sequential_tokens, sequential_tokens_strict

from .executor import SubtaskOutcome

BranchWork = tuple[SubtaskOutcome, int, Sequence[int]]
"""A branch on a path through its stage, the plan's tokens before it, without tags, and the numbers it waited for."""


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
    paths = _Paths(works, call, planned)
    reached = paths.seconds
    strict = call.usage.generated_tokens if call else 0
    content = strict - call.usage.tag_tokens if call else 0
    if since:
        content += max(0, sequential_tokens(0, paths.content) - sum(stage.usage.sequential_tokens for stage in since))
        strict += max(0, sequential_tokens(0, paths.strict) - sum(s.usage.sequential_tokens_strict for s in since))
        hidden = sum(stage.usage.sequential_seconds for stage in since)
        seconds = planned + max(0.0, reached - hidden)
        executes = reached > hidden
    else:
        content, strict = sequential_tokens(content, paths.content), sequential_tokens_strict(strict, paths.strict)
        seconds, executes = max(planned, reached), reached > planned
    return StageUsage(
        total=total,
        sequential_tokens=content,
        sequential_tokens_strict=strict,
        sequential_seconds=seconds,
        sequential_requests=(*(call.request_ids if call else ()), *(paths.requests() if executes else ())),
    )


class _Paths:
    """The paths through a stage whose plan took ``planned`` seconds of ``call``, each to the end of a branch.

    Attributes:
        content: where each branch begins and its own length, in tokens without tags; ``strict`` with all tokens.
        seconds: the length of the longest path.
    """

    __slots__ = ("_ends", "_last", "content", "seconds", "strict")

    def __init__(self, works: Iterable[BranchWork], call: EngineCall | None, planned: float) -> None:
        self.content: list[Branch] = []
        self.strict: list[Branch] = []
        self.seconds = 0.0
        # By number: its place in the lists, its end in seconds, and the number of the execution before it on the path.
        self._ends: dict[int, tuple[int, float, Execution[Any], int | None]] = {}
        self._last: int | None = None
        written_from = call.started + call.waited if call else 0.0
        for outcome, content, after in works:
            execution = outcome.execution
            strict, start, previous = execution.plan_tokens, 0.0, None
            if call is not None:
                # A plan that was kept is read again at once, so its prompts close when its own call has long ended.
                start = min(max(0.0, execution.prompt_closed - written_from), planned)
            for number in after:
                if number in self._ends:
                    place, end, _, _ = self._ends[number]
                    content, strict = max(content, sum(self.content[place])), max(strict, sum(self.strict[place]))
                    if end > start:
                        start, previous = end, number
            end = start + max(0.0, execution.ended - execution.started - _waited(execution))
            self._ends[execution.number] = (len(self.content), end, execution, previous)
            self.content.append((content, outcome.content_tokens))
            self.strict.append((strict, outcome.all_tokens))
            if end > self.seconds:
                self.seconds, self._last = end, execution.number

    def requests(self) -> list[str]:
        """Return the ids of the requests of all executions on the longest path, in order."""
        executions: list[Execution[Any]] = []
        number = self._last
        while number is not None:
            _, _, execution, number = self._ends[number]
            executions.insert(0, execution)
        own = [
            (
                *(call.request_ids for call in execution.calls),
                *(stage.usage.sequential_requests for stage in execution.stages),
            )
            for execution in executions
        ]
        return [one for ids in own for part in ids for one in part]


def _waited(execution: Execution[Any]) -> float:
    """Return how many of its seconds an execution waited: for tokens, or in an inner stage for a place."""
    waited = 0.0
    for call in execution.calls:
        waited += call.waited
    for stage in execution.stages:
        waited += stage.ended - stage.started - stage.usage.sequential_seconds
    return waited
