"""The data that a dialect writes prompts from: the agents, their tools, and what executions and tools returned."""

from dataclasses import dataclass
from typing import NamedTuple

from sprint_agents.engine import ToolBrief


@dataclass(frozen=True, slots=True)
class AgentBrief:
    """An agent as a model is told of it.

    ``schema`` is the JSON schema of its answer or result, as JSON text; None for free text (``str``).
    """

    instructions: str = ""
    schema: str | None = None
    tools: tuple[ToolBrief, ...] = ()


class ToolOutcome(NamedTuple):
    """The outcome of a tool call: ``text`` is JSON, what the tool returned or, if ``failed``, an error message."""

    tool: str
    text: str
    failed: bool = False


class JoinedExecution(NamedTuple):
    """A finished execution that joins a context, as execution ``number`` of its stage.

    Attributes:
        text: the completion of a model, stop included; otherwise the result of a function, or why there is none.
        generated: a model wrote the text, so the context receives the model's own token ids.
        failed: ``text`` is an error message.
    """

    number: int
    text: str
    generated: bool = False
    failed: bool = False
