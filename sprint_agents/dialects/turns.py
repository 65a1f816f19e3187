"""What passes between a dialect and the runtime about agents: what the model is told of them, and their turns."""

from dataclasses import dataclass
from typing import NamedTuple

from sprint_agents.records import record


@dataclass(frozen=True, slots=True)
class ToolBrief:
    """A tool as a model is told of it; ``schema`` is the JSON schema of its arguments, an object, as JSON text."""

    name: str
    description: str
    schema: str


@dataclass(frozen=True, slots=True)
class AgentBrief:
    """An agent as a model is told of it.

    ``schema`` is the JSON schema of its answer or result, as JSON text; None for free text (``str``).
    """

    instructions: str = ""
    schema: str | None = None
    tools: tuple[ToolBrief, ...] = ()


class Result(NamedTuple):
    """A turn that ends an execution, whatever it is worth: the runtime validates it.

    ``text`` is the result's, ``is_json`` if it is to be read as JSON alone (so ``"42"`` is a string). Of the turn as
    it was written, characters ``start`` to ``end`` are thoughts and the result's own; the others are markup.
    """

    text: str
    start: int
    end: int
    is_json: bool = False


@record()
class ToolCall:
    """One call that a turn asks for; ``arguments`` is a JSON object as text, unchecked."""

    tool: str
    arguments: str


@record()
class ToolCalls:
    """A turn that asks for tools, all at the same time; at least one call, in the order written."""

    calls: tuple[ToolCall, ...]


@record()
class ToolOutcome:
    """What became of a call: ``text`` is JSON, what the tool returned or, if ``failed``, a string with the error."""

    tool: str
    text: str
    failed: bool = False


Turn = Result | ToolCalls
"""What an executor's completion is."""
