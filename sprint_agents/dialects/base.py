"""What a dialect is to the runtime: the texts around what a model writes, and the reading of it.

A dialect never sees token ids, and the runtime never sees a tag. The layout of a run, in any dialect::

    question
      opening · the model's plan · plan_end           one stage
        execution · result · execution_end            each execution, in prompt order
      executions_end
      opening · the model's answer                    the end

and of an executor's context: all of the above up to the end of its prompt, then ``header``, the executor's turn and, as
long as a turn is no valid result, ``tool_results`` or ``retry_note`` and its next turn. One that waited for siblings
reads ``branch``, each of theirs as in the join, and its own ``execution``, in the place of the ``header``. For a policy
that carries out a subtask ``nested`` takes the place of ``execution``, and is the ``opening`` of its first turn.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from .diagnostics import Diagnostic
from .items import Item
from .tags.format import TagStops
from .turns import AgentBrief, ToolBrief, ToolOutcome, Turn

Form = Literal["plan", "chain", "answer"]
"""What the planner is to write: a plan or its answer, one sequential chain, or the answer now."""

Role = Literal["plan", "execution", "answer"]
"""Whose words a request asks for; a chain ends as an answer does."""


class Span(Protocol):
    """A part of a completion, as offsets in characters."""

    @property
    def start(self) -> int:
        """Where it begins."""
        ...

    @property
    def end(self) -> int:
        """Where it ends."""
        ...


class Reader(Protocol):
    """Reads one completion of a planner as it streams in; never raises on what a model wrote."""

    @property
    def chain(self) -> str | None:
        """The chain of thought before the plan or the answer."""
        ...

    @property
    def plan(self) -> str | None:
        """The text of the plan so far; None before it begins."""
        ...

    @property
    def answer(self) -> str | None:
        """The text of the final answer."""
        ...

    @property
    def diagnostics(self) -> Sequence[Diagnostic]:
        """What is not as it should be."""
        ...

    @property
    def spans(self) -> Sequence[Span]:
        """Where the completion is markup and no content, in order."""
        ...

    def feed(self, text: str) -> Sequence[Item]:
        """Read the next chunk; return what it brought to an end."""
        ...

    def close(self) -> Sequence[Item]:
        """End the completion; return what only its end decides."""
        ...


class Dialect(Protocol):
    """Text to plan and back. ``tagged.TagDialect`` is the paper's, for models trained on it."""

    @property
    def stops(self) -> TagStops:
        """The texts at which a request of each role ends."""
        ...

    @property
    def tools(self) -> tuple[ToolBrief, ...]:
        """The tools whose calls are left to an engine that has its own way for them; none if the dialect writes calls.

        All requests of a run carry them, so that they begin alike; only an executor's may call them.
        """
        ...

    def question(self, task: str) -> str:
        """Write what opens the context of a run."""
        ...

    def reader(self, stage: int, form: Form) -> Reader:
        """Make the reader of what the planner writes after ``opening``."""
        ...

    def opening(self, stage: int, form: Form) -> str:
        """Write what stands before the planner's own words."""
        ...

    def ending(self, form: Form, written: str) -> str:
        """Write what stands after a completion that brought neither a plan nor an answer."""
        ...

    def given(self, stage: int, text: str, prompts: Sequence[str], *, after: Sequence[Sequence[int]] = ()) -> list[str]:
        """Write a policy's plan as a planner would have: the pieces that end with each prompt, and the rest.

        ``after`` says of each prompt which others it waits for, where the dialect has words for that.

        Raises:
            PolicyError: a text would be read as something else.
        """
        ...

    def quoted(self, text: str) -> str:
        """Return a model's ``text`` so that a policy's plan may hold it: nothing in it is read as anything else."""
        ...

    def plan_end(self, stage: int, written: str, *, executions: bool) -> str:
        """Write what ends the plan ``written``, and opens its executions if there are any."""
        ...

    def executions(self, stage: int) -> str:
        """Write what opens the executions of a stage that join later than its plan's end, maybe behind other plans."""
        ...

    def execution(self, stage: int, number: int) -> str:
        """Write what stands before one execution in the join."""
        ...

    def execution_end(self, stage: int, number: int, written: str) -> str:
        """Write what stands after one execution in the join, which ends as ``written`` does."""
        ...

    def told(self, text: str, *, failed: bool) -> str:
        """Write in the place of an execution what no model wrote: a function's result, or why there is none."""
        ...

    def executions_end(self, stage: int) -> str:
        """Write what ends the executions of a stage."""
        ...

    def branch(self, stage: int) -> str:
        """Write what stands between the end of a prompt and an execution that is read behind it."""
        ...

    def header(self, stage: int, number: int) -> str:
        """Write what an executor reads after its prompt: ``branch`` and its own ``execution``."""
        ...

    def nested(self, stage: int, number: int) -> str:
        """Write ``execution`` for one that may plan as well: its turns are plans, or the result."""
        ...

    def answer(self, text: str) -> str:
        """Return the answer's value, as the planner's type reads it, of what a reader's ``answer`` says."""
        ...

    def for_agents(self, planner: AgentBrief, executor: AgentBrief | None) -> "Dialect":
        """Return the dialect of a run with these agents, of which ``question`` then tells the model.

        ``executor`` is None where subtasks are carried out by no model. What the dialect tells of both agents stands
        in the part that they share, so that every request of a run has it as a prefix.

        Raises:
            ConfigurationError: the dialect has no words for something, such as tools between tags.
        """
        ...

    def turn(self, stage: int, number: int, written: str) -> Turn:
        """Read an executor's completion, which may be cut off or be nonsense; never raises on what a model wrote.

        What is neither a call of tools nor a well-formed result is a ``Result`` of all that was written.
        """
        ...

    def tool_results(self, stage: int, number: int, written: str, outcomes: Sequence[ToolOutcome]) -> str:
        """Write what follows an executor's turn ``written`` that asked for tools, up to where its next turn begins.

        That is the rest of what ends the turn, the outcomes in the order of its calls, and the next turn's header.

        Raises:
            ConfigurationError: the dialect has no tools (``turn`` then returns no ``ToolCalls``).
        """
        ...

    def retry_note(self, role: Role, stage: int, number: int, written: str, error: str) -> str:
        """Write what follows a turn ``written`` whose result or answer is of the wrong type, as ``error`` says.

        That is the rest of what ends the turn, and a note with the error. For an execution also the next turn's
        header; after an answer (``number`` is 0) the runtime goes on with ``opening(stage, "answer")``.
        """
        ...

    def schema(self, role: Role) -> str | None:
        """Return the JSON schema that a completion of this role satisfies; None where the dialect asks for none."""
        ...
