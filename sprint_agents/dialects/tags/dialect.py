"""The paper's tag format as a dialect; ``format`` shows the tags and their layout."""

import re
from collections.abc import Sequence
from typing import Self

from sprint_agents.dialects.base import AgentBrief, Constraints, Form, JoinedExecution, Role, ToolOutcome
from sprint_agents.dialects.completions import Result
from sprint_agents.errors import ConfigurationError, PolicyError
from sprint_agents.manifest import Manifest

from .format import TagPair, Tags, closing, load_tags, overlap
from .plans import TagPlanReader


class TagDialect:
    r"""Plans and executions between tags (arXiv 2506.05745, section 3.1), for models trained on them.

    ``question`` opens the context, with the task in place of ``{task}``; ``instructions`` precede it.

    >>> from sprint_agents.dialects.tags.format import load_tags
    >>> TagDialect(load_tags()).write_plan(1, "", ["Add 1 and 2."])
    ['<Plan_1>\n<prompt_1.1>Add 1 and 2.</prompt_1.1>', '\n']
    """

    def __init__(self, tags: Tags, *, question: str = "{task}\n", instructions: str = "") -> None:
        self.tags = tags
        self._question = question
        self._instructions = instructions
        self._any_tag = re.compile("|".join(map(re.escape, tags.special_tokens)))
        self._constraints: dict[Role, Constraints] = {
            "plan": Constraints(stops=tags.stops.plan),
            "execution": Constraints(stops=tags.stops.execution),
            "answer": Constraints(stops=tags.stops.answer),
        }
        self._filled: tuple[int, TagPair, TagPair] = (0, tags.prompt, tags.execution)

    @classmethod
    def of(cls, manifest: Manifest | None) -> Self:
        """Return the dialect that a checkpoint was trained on."""
        if manifest is None:
            return cls(load_tags())
        return cls(load_tags(manifest.dialect_version), question=manifest.question)

    def bind(self, planner: AgentBrief, executor: AgentBrief | None) -> "TagDialect":
        """Put the agents' instructions before the question; a model of this format is not told of their types.

        Raises:
            ConfigurationError: an agent has tools.
        """
        agents = [planner] if executor is None else [planner, executor]
        if tools := [tool.name for agent in agents for tool in agent.tools]:
            raise ConfigurationError(
                f"tools need the json dialect, and this run's is tags, which has no way to call {', '.join(tools)}: "
                "use a model that follows instructions, with the json dialect, or make the executor a plain function"
            )
        instructions = "".join(f"{agent.instructions}\n" for agent in agents if agent.instructions)
        return type(self)(self.tags, question=self._question, instructions=instructions)

    def constraints(self, role: Role) -> Constraints:
        """Stop at the closing tags, each by its constant first part."""
        return self._constraints[role]

    def write_task(self, task: str) -> str:
        """Insert the task into the question."""
        return self._instructions + self._question.replace("{task}", task)

    def write_opening(self, stage: int, form: Form) -> str:
        """Open the chain or the answer; a model opens its plan itself."""
        return "" if form == "plan" else f"{self._pair(form).open}\n"

    def write_header(self, stage: int, number: int, *, nested: bool = False, inputs: bool = False) -> str:
        """Open an execution, on a new line; plans inside it have their own tags."""
        header = f"{self._of(stage)[2].open.replace('{number}', str(number))}\n"
        return header if inputs else f"\n{header}"

    def write_plan(
        self, stage: int, text: str, prompts: Sequence[str], *, after: Sequence[Sequence[int]] = ()
    ) -> list[str]:
        """Write a policy's plan between tags, which have no notation for ``after``.

        Raises:
            PolicyError: a text contains a tag.
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

    def quote(self, text: str) -> str:
        """Insert a space into every tag, after its first character."""
        return self._any_tag.sub(lambda tag: f"{tag.group()[0]} {tag.group()[1:]}", text)

    def write_join(
        self, stage: int, executions: Sequence[JoinedExecution], *, plan: str | None = None, inputs: bool = False
    ) -> list[str]:
        """Close the plan, and write each execution between its tags; a failure is in brackets."""
        pending = "\n" if inputs else ""
        if plan is not None:
            pending = f"{closing(plan, self.tags.plan.of(stage).close)}\n"
        whole = self.tags.executions.of(stage) if executions and not inputs else None
        if whole is not None:
            pending += f"{whole.open}\n"
        pair = self._of(stage)[2]
        texts: list[str] = []
        for number, text, generated, failed in executions:
            filled = pair.numbered(number)
            pending += f"{filled.open}\n"
            if generated:
                texts.append(pending)
                pending = ""
            else:
                text = f"[failed: {text}]" if failed else text
                pending += text
            pending += f"{closing(text, filled.close)}\n"
        if whole is not None:
            pending += f"{whole.close}\n"
        return [*texts, pending]

    def write_end(self, form: Form, written: str) -> str:
        """Close the chain or the answer."""
        return "\n" if form == "plan" else f"{closing(written, self._pair(form).close)}\n"

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
        r"""Close the turn, note the error on a separate line, and open the execution again.

        >>> from sprint_agents.dialects.tags.format import load_tags
        >>> TagDialect(load_tags()).write_feedback("execution", 1, 2, "many</execution_", error="it is no int")
        '1.2>\n[invalid: it is no int]\n<execution_1.2>\n'

        Raises:
            ConfigurationError: there are ``outcomes``: no turn between tags calls a tool.
        """
        if outcomes:
            raise ConfigurationError("the tags dialect has no tools: use the json dialect")
        execution = role == "execution"
        close = self._execution_close(stage, number) if execution else self.tags.answer.close
        note = f"{closing(written, close)}\n[invalid: {error}]"
        return note + (self.write_header(stage, number) if execution else "\n")

    def read_plan(self, stage: int, form: Form) -> TagPlanReader:
        """Read tags; a model writes the opening tag of its plan itself."""
        return TagPlanReader(self.tags, stage=stage, within="outside" if form == "plan" else form)

    def read_turn(self, stage: int, number: int, written: str) -> Result:
        """Take everything before the closing tag, or the beginning of it, as the result."""
        end = len(written) - overlap(written, self._execution_close(stage, number))
        return Result(written[:end], 0, end)

    def _execution_close(self, stage: int, number: int) -> str:
        return self._of(stage)[2].close.replace("{number}", str(number))

    def _pair(self, form: Form) -> TagPair:
        return self.tags.chain if form == "chain" else self.tags.answer

    def _of(self, stage: int) -> tuple[int, TagPair, TagPair]:
        """Fill in the stage once a stage, rather than once a subtask."""
        if self._filled[0] != stage:
            self._filled = (stage, self.tags.prompt.of(stage), self.tags.execution.of(stage))
        return self._filled
