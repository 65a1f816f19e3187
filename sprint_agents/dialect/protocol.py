"""What a dialect is to the runtime: the texts around what a model writes, and the reading of it.

A dialect never sees token ids, and the runtime never sees a tag. The layout of a run, in any dialect::

    question
      opening · the model's plan · plan_end           one stage
        execution.open · result · execution.close     each execution, in prompt order
      executions.close
      opening · the model's answer                    the end

and of an executor's context: all of the above up to the end of its prompt, then ``header``.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from .diagnostics import Diagnostic
from .items import Item
from .lexer import Tag
from .tags import TagPair, TagStops

Form = Literal["plan", "chain", "answer"]
"""What the planner is to write: a plan or its answer, one sequential chain, or the answer now."""

Role = Literal["plan", "execution", "answer"]
"""Whose words a request asks for; a chain ends as an answer does."""


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
    def spans(self) -> Sequence[Tag]:
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

    def given(self, stage: int, text: str, prompts: Sequence[str]) -> list[str]:
        """Write a policy's plan as a planner would have: the pieces that end with each prompt, and the rest.

        Raises:
            PolicyError: a text would be read as something else.
        """
        ...

    def plan_end(self, stage: int, written: str, *, executions: bool) -> str:
        """Write what ends the plan ``written``, and opens its executions if there are any."""
        ...

    def execution(self, stage: int, number: int) -> TagPair:
        """Return what stands before and after one execution in the join."""
        ...

    def executions_end(self, stage: int) -> str:
        """Write what ends the executions of a stage."""
        ...

    def header(self, stage: int, number: int) -> str:
        """Write what an executor reads after its prompt."""
        ...

    def schema(self, role: Role) -> str | None:
        """Return the JSON schema that a completion of this role satisfies; None where the dialect asks for none."""
        ...
