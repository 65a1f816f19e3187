"""The paper's tag format as a dialect; its tags and their layout are in ``tags``."""

import re
from collections.abc import Sequence
from typing import Self

from sprint_agents.dialects.answers import answer_value
from sprint_agents.dialects.base import Form, Role
from sprint_agents.dialects.turns import AgentBrief, Result, ToolBrief, ToolOutcome
from sprint_agents.errors import ConfigurationError, PolicyError
from sprint_agents.manifest import Manifest

from .format import TagPair, Tags, TagStops, closing, load_tags, overlap
from .reader import TagReader


class TagDialect:
    r"""Plans and executions between tags (PAPER, Inference), for models that were trained on them.

    ``question`` is how a task opens the context, with ``{task}`` in its place; ``instructions`` stand before it.

    >>> from sprint_agents.dialects.tags.format import load_tags
    >>> TagDialect(load_tags()).given(1, "", ["Add 1 and 2."])
    ['<Plan_1>\n<prompt_1.1>Add 1 and 2.</prompt_1.1>', '\n']
    """

    def __init__(self, tags: Tags, *, question: str = "{task}\n", instructions: str = "") -> None:
        self.tags = tags
        self._question = question
        self._instructions = instructions
        self._any_tag = re.compile("|".join(map(re.escape, tags.special_tokens)))
        self._filled: tuple[int, TagPair, TagPair] = (0, tags.prompt, tags.execution)

    @classmethod
    def of(cls, manifest: Manifest | None) -> Self:
        """Take the tags and the question that a checkpoint was trained on."""
        if manifest is None:
            return cls(load_tags())
        return cls(load_tags(manifest.dialect_version), question=manifest.question)

    @property
    def stops(self) -> TagStops:
        """The closing tags, each by its constant first part."""
        return self.tags.stops

    @property
    def tools(self) -> tuple[ToolBrief, ...]:
        """None: a model that was trained on tags knows no tools."""
        return ()

    def question(self, task: str) -> str:
        """Put the task into its place."""
        return self._instructions + self._question.replace("{task}", task)

    def reader(self, stage: int, form: Form) -> TagReader:
        """Read tags; a plan's own opening tag is the model's."""
        return TagReader(self.tags, stage=stage, within="outside" if form == "plan" else form)

    def opening(self, stage: int, form: Form) -> str:
        """Open the chain or the answer; a model opens its plan itself."""
        return "" if form == "plan" else f"{self._pair(form).open}\n"

    def ending(self, form: Form, written: str) -> str:
        """Close what was opened."""
        return "\n" if form == "plan" else f"{closing(written, self._pair(form).close)}\n"

    def given(self, stage: int, text: str, prompts: Sequence[str], *, after: Sequence[Sequence[int]] = ()) -> list[str]:
        """Write a policy's plan between tags, which have no words for ``after``.

        Raises:
            PolicyError: a text holds a tag.
        """
        for part in (text, *prompts):
            if match := self._any_tag.search(part):
                raise PolicyError(
                    f"a text of plan {stage} holds the tag {match.group()!r}, which would end or start a part of it"
                )
        pending = f"{self.tags.plan.of(stage).open}\n" + (f"{text}\n" if text else "")
        pair = self._of(stage)[1]
        pieces: list[str] = []
        for number, prompt in enumerate(prompts, 1):
            filled = pair.numbered(number)
            pieces.append(f"{pending}{filled.open}{prompt}{filled.close}")
            pending = "\n"
        return [*pieces, pending]

    def quoted(self, text: str) -> str:
        """Put a space into every tag, behind its first character."""
        return self._any_tag.sub(lambda tag: f"{tag.group()[0]} {tag.group()[1:]}", text)

    def plan_end(self, stage: int, written: str, *, executions: bool) -> str:
        """Close the plan, and open the executions if there are any."""
        end = f"{closing(written, self.tags.plan.of(stage).close)}\n"
        return end + self.executions(stage) if executions else end

    def executions(self, stage: int) -> str:
        """Open the executions."""
        return f"{self.tags.executions.of(stage).open}\n"

    def execution(self, stage: int, number: int) -> str:
        """Open an execution."""
        return f"{self._of(stage)[2].open.replace('{number}', str(number))}\n"

    def execution_end(self, stage: int, number: int, written: str) -> str:
        """Close an execution."""
        return f"{closing(written, self._execution_close(stage, number))}\n"

    def told(self, text: str, *, failed: bool) -> str:
        """Write it as it is, a failure in brackets."""
        return f"[failed: {text}]" if failed else text

    def executions_end(self, stage: int) -> str:
        """Close the executions."""
        return f"{self.tags.executions.of(stage).close}\n"

    def branch(self, stage: int) -> str:
        """Begin a line of its own."""
        return "\n"

    def header(self, stage: int, number: int) -> str:
        """Open an execution on a line of its own."""
        return f"\n{self.execution(stage, number)}"

    def nested(self, stage: int, number: int) -> str:
        """Open an execution: plans in it have tags of their own."""
        return self.execution(stage, number)

    def answer(self, text: str) -> str:
        r"""Take what the last ``\boxed{…}`` holds, or all of it."""
        return answer_value(text)

    def for_agents(self, planner: AgentBrief, executor: AgentBrief | None) -> "TagDialect":
        """Put the agents' instructions before the question; their types are left to their words.

        Raises:
            ConfigurationError: an agent has tools.
        """
        agents = [planner] if executor is None else [planner, executor]
        if tools := [tool.name for agent in agents for tool in agent.tools]:
            raise ConfigurationError(
                f"tools need the json dialect, and this run's is tags, which has no way to call {', '.join(tools)}: "
                "use a model that follows instructions, with the json dialect, or make the executor a plain function"
            )
        told = "".join(f"{agent.instructions}\n" for agent in agents if agent.instructions)
        return type(self)(self.tags, question=self._question, instructions=told)

    def turn(self, stage: int, number: int, written: str) -> Result:
        """Take all before the closing tag, or the beginning of it, as the result."""
        end = len(written) - overlap(written, self._execution_close(stage, number))
        return Result(written[:end], 0, end)

    def tool_results(self, stage: int, number: int, written: str, outcomes: Sequence[ToolOutcome]) -> str:
        """Refuse: no turn between tags asks for a tool.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("the tags dialect has no tools: use the json dialect")

    def retry_note(self, role: Role, stage: int, number: int, written: str, error: str) -> str:
        r"""Close what was written, note the error on a line of its own, and open the execution again.

        >>> from sprint_agents.dialects.tags.format import load_tags
        >>> TagDialect(load_tags()).retry_note("execution", 1, 2, "many</execution_", "it is no int")
        '1.2>\n[invalid: it is no int]\n<execution_1.2>\n'
        """
        execution = role == "execution"
        close = self._execution_close(stage, number) if execution else self.tags.answer.close
        note = f"{closing(written, close)}\n[invalid: {error}]"
        return note + (self.header(stage, number) if execution else "\n")

    def schema(self, role: Role) -> str | None:
        """Return None: tags are no JSON."""
        return None

    def _execution_close(self, stage: int, number: int) -> str:
        return self._of(stage)[2].close.replace("{number}", str(number))

    def _pair(self, form: Form) -> TagPair:
        return self.tags.chain if form == "chain" else self.tags.answer

    def _of(self, stage: int) -> tuple[int, TagPair, TagPair]:
        """Fill in the stage once, not once a subtask."""
        if self._filled[0] != stage:
            self._filled = (stage, self.tags.prompt.of(stage), self.tags.execution.of(stage))
        return self._filled
