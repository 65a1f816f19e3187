"""What became of a subtask, for the record and for the join."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sprint_agents.errors import InvalidResult
from sprint_agents.plan import Execution, Failure, Subtask, ToolUse
from sprint_agents.usage import CallUsage

AnyExecution = Execution[Any]
"""Named once: pydantic looks a parametrised model up each time it is written."""


@dataclass(slots=True)
class Executed:
    """A finished execution, with what the join needs: ids as they were generated, or text where there are none.

    ``content_tokens`` are its own work alone, without tags and what did not validate; ``all_tokens`` everything.
    """

    execution: Execution[Any]
    ids: Sequence[int] | None
    text: str
    content_tokens: int = 0
    all_tokens: int = 0


def failed(
    subtask: Subtask,
    error: Exception,
    costs: Sequence[CallUsage],
    *,
    tool_uses: Sequence[ToolUse] = (),
    transcript: str = "",
) -> Executed:
    """Make the execution of a subtask that came to nothing."""
    failure = Failure.of(error)
    note = f"{failure.type}: {failure.message.splitlines()[0][:200]}"
    execution = AnyExecution(
        number=subtask.number,
        prompt=subtask.prompt,
        text=error.text if isinstance(error, InvalidResult) else "",
        failure=failure,
        usage=CallUsage.sum(costs),
        tool_uses=tuple(tool_uses),
        transcript=transcript,
    )
    return Executed(execution, None, note, all_tokens=execution.usage.generated_tokens)
