"""The dialect protocol: it writes prompts around a model's completions, and reads plans and results from them.

A dialect works on text alone, so it never sees token ids; the runtime never sees a tag. This is the context of a run,
with the completions of models in brackets::

    write_task
    write_opening  [plan]                           one stage
    write_join     [result] … [result] …            the executions of the stage, in prompt order
    write_opening  [answer]                         the end

Between two stages, and after the end, the user may say more (``write_message``).

An executor reads the same context up to the end of its prompt, then::

    write_header   [result or tool calls]
    write_feedback [result or tool calls]           for each turn that calls tools or is invalid

If its subtask waits for others, ``write_join(…, inputs=True)`` with their executions precedes the header.

Only what a dialect marks as markup may hold control tokens (see ``sprint_agents.markup``). Everything else is outside
text: tasks, prompts, results, messages of errors, instructions, what tools return. A dialect whose markup is ordinary
text may return plain texts. In any case it quotes outside text that would read as its markup, so that the text of a
context has the same parts as the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from sprint_agents.engine import Thoughts, ToolBrief

from .completions import PlanReader, Turn

Form = Literal["plan", "graph", "chain", "answer"]
"""What the planner is asked for: a plan or its answer, one sequential chain of thought, or the answer now.

A ``graph`` is a plan whose subtasks may wait for earlier ones. A dialect without a notation for that asks for a plan.
"""

Role = Literal["plan", "graph", "execution", "answer"]
"""The kind of a request; a chain ends as an answer does, and has its constraints."""


@dataclass(frozen=True, slots=True)
class AgentBrief:
    """An agent as a model is told of it.

    ``schema`` is the JSON schema of its answer or result, as JSON text; None for free text (``str``). ``max_tokens``
    bounds its turns, and ``answer_tokens`` those in which it may only answer; None if that is not known.
    """

    instructions: str = ""
    schema: str | None = None
    tools: tuple[ToolBrief, ...] = ()
    max_tokens: int | None = None
    answer_tokens: int | None = None


class ToolOutcome(NamedTuple):
    """The outcome of a tool call: ``text`` is JSON, what the tool returned or, if ``failed``, an error message.

    ``refused`` if it failed because a person did not approve it.
    """

    tool: str
    text: str
    failed: bool = False
    refused: bool = False


class JoinedExecution(NamedTuple):
    """A finished execution that joins a context, as execution ``number`` of its stage.

    Attributes:
        text: the completion of a model, stop included; otherwise the result of a function, or why there is none.
        generated: a model wrote the text, which is not written by ``write_join``.
        failed: ``text`` is an error message.
    """

    number: int
    text: str
    generated: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """The limits that a request sets to a completion.

    Attributes:
        stops: texts that end the completion.
        thoughts: whether it may begin with thoughts, to which the schema does not apply.
        drops_thoughts: whether later requests read the completion without its thoughts.
        schema: the JSON schema that it must satisfy, as JSON text; None for free text.
        tools: tools that an engine with native tool calls is told of. All roles have the same, so that their requests
            share a prefix; only an executor may call them. Empty if the dialect writes tool calls itself.
    """

    stops: tuple[str, ...] = ()
    schema: str | None = None
    tools: tuple[ToolBrief, ...] = ()
    thoughts: Thoughts = field(default="none", repr=False)
    drops_thoughts: bool = field(default=False, repr=False)


class PromptWriter(Protocol):
    """Writes everything in a context that no model wrote; outside text in it is not markup, whatever it contains."""

    def write_task(self, task: str) -> str:
        """Write the beginning of a run's context: the agents, if the model is told of them, and the task."""
        ...

    def write_message(self, text: str, *, task: bool = False) -> str:
        """Write a message of the user between two stages, or another ``task`` after an answer, which has ended."""
        ...

    def write_opening(self, stage: int, form: Form) -> str:
        """Write what precedes the planner's completion."""
        ...

    def write_header(self, stage: int, number: int, *, nested: bool = False, inputs: bool = False) -> str:
        """Write what precedes an executor's first turn, after the end of its prompt.

        With ``inputs``, the executions that the subtask waited for come between prompt and header. With ``nested``,
        the executor is a policy: its turns may be plans as well.
        """
        ...

    def write_plan(
        self, stage: int, text: str, prompts: Sequence[str], *, after: Sequence[Sequence[int]] = ()
    ) -> list[str]:
        """Write a policy's plan as a planner would: one piece up to the end of each prompt, then the rest.

        ``after`` lists for each prompt the numbers of the subtasks that it waits for; a dialect without a notation for
        dependencies ignores it.
        """
        ...

    def write_completion(self, stage: int, number: int, written: str) -> str:
        """Write an executor's completion again, for a context that cannot have its token ids.

        Its stop is markup, and everything that would read as another turn is quoted. So a completion may join by its
        own ids if this changes nothing in it.
        """
        ...

    def mark(self, written: str) -> str:
        """Mark the markup that a planner wrote, in the same text."""
        ...

    def write_join(
        self, stage: int, executions: Sequence[JoinedExecution], *, plan: str | None = None, inputs: bool = False
    ) -> list[str]:
        """Write the join of a stage, as the texts before, between and after its ``generated`` executions.

        Executions that no model wrote are part of these texts, so there is one text more than generated executions.

        Args:
            stage: the number of the plan in the context.
            executions: what joins, in prompt order; may be empty.
            plan: the planner's completion, or a policy's plan, if the join follows it directly. None if the stage
                joins later, possibly after other plans.
            inputs: the reader is a subtask that waited for these executions, rather than the planner.
        """
        ...

    def write_end(self, form: Form, written: str) -> str:
        """Write what follows the planner's completion ``written`` if it holds neither a plan nor an answer."""
        ...

    def write_feedback(
        self,
        role: Role,
        stage: int,
        number: int,
        written: str,
        *,
        error: str = "",
        outcomes: Sequence[ToolOutcome] = (),
    ) -> str:
        """Write what follows a turn ``written`` that called tools, or whose result or answer is invalid.

        An executor's feedback ends with the header of its next turn. After an invalid answer (``number`` is 0) the
        runtime continues with ``write_opening(stage, "answer")``, and after a plan that is neither a plan nor an answer
        with the opening of the next stage.

        Args:
            role: whose turn it was.
            stage: the number of the plan in the context.
            number: the subtask's number within its stage.
            written: the completion.
            error: why the turn is invalid.
            outcomes: the outcomes of the turn's tool calls, in order, if it is not invalid.

        Raises:
            ConfigurationError: there are ``outcomes``, but the dialect has no tools.
        """
        ...


class CompletionReader(Protocol):
    """Reads what models wrote; never raises on it."""

    def read_plan(self, stage: int, form: Form) -> PlanReader:
        """Return a reader for the planner's completion after ``write_opening``."""
        ...

    def read_turn(self, stage: int, number: int, written: str) -> Turn:
        """Read an executor's completion, which may be cut off.

        Anything but tool calls and a well-formed result is a ``Result`` with all of the text.
        """
        ...


class Dialect(PromptWriter, CompletionReader, Protocol):
    """How plans, results and answers are written: ``tags`` is the paper's format, ``json`` suits any instruct model."""

    def bind(self, planner: AgentBrief, executor: AgentBrief | None) -> "Dialect":
        """Return the dialect for a run with these agents, which ``write_task`` then describes.

        ``executor`` is None if no model executes the subtasks.

        Raises:
            ConfigurationError: the dialect cannot express something, such as tools between tags.
        """
        ...

    def constraints(self, role: Role) -> Constraints:
        """Return the constraints of the requests of a role."""
        ...
