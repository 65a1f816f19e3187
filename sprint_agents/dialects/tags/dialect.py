"""The paper's tag format as a dialect; ``format`` shows the tags and their layout."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from sprint_agents.dialects.base import AgentBrief, Constraints, Form, JoinedExecution, Role, ToolOutcome
from sprint_agents.dialects.completions import Result
from sprint_agents.dialects.conversation import ASSISTANT_MARK
from sprint_agents.errors import ConfigurationError
from sprint_agents.manifest import Manifest
from sprint_agents.markup import compose, markup

from .format import INVALID, NOTE, TagPair, Tags, closing, load_tags, overlap
from .plans import TagPlanReader


class TagDialect:
    r"""Plans and executions between tags (arXiv 2506.05745, section 3.1), for models trained on them.

    ``question`` opens the context, with the task in place of ``{task}``; ``instructions`` precede it. A tag in outside
    text gets a space after its first character, so that it reads as text: ``< Plan_1>``.

    >>> from sprint_agents.dialects.tags.format import load_tags
    >>> TagDialect(load_tags()).write_plan(1, "", ["Add 1 and 2."])
    ['<Plan_1>\n<prompt_1.1>Add 1 and 2.</prompt_1.1>', '\n']
    """

    def __init__(self, tags: Tags, *, question: str = "{task}\n", instructions: str = "") -> None:
        self.tags = tags
        self._question = question
        self._instructions = instructions
        self._tag = _any_of(tags.special_tokens)
        # A finished run may be read as the log of a conversation, in which the assistant's mark begins the run. A chain
        # of thought in an execution is not a turn of the planner.
        self._quotable = _any_of(tags.special_tokens, ASSISTANT_MARK)
        self._turn = _any_of([tag for tag in tags.special_tokens if tag not in tags.chain], ASSISTANT_MARK)
        self._constraints: dict[Role, Constraints] = {
            "plan": Constraints(stops=tags.stops.plan),
            "graph": Constraints(stops=tags.stops.plan),
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
        return compose([self.quote(self._instructions), self._asked(task)])

    def write_message(self, text: str, *, task: bool = False) -> str:
        """Write a note on a separate line, or the question with another task."""
        return self._asked(text) if task else compose([self.quote(NOTE.replace("{note}", text)), markup("\n")])

    def write_opening(self, stage: int, form: Form) -> str:
        """Open the chain or the answer; a model opens its plan itself."""
        return "" if form in ("plan", "graph") else markup(f"{self._pair(form).open}\n")

    def write_header(self, stage: int, number: int, *, nested: bool = False, inputs: bool = False) -> str:
        """Open an execution, on a new line; plans inside it have their own tags."""
        header = f"{self._of(stage)[2].open.replace('{number}', str(number))}\n"
        return markup(header if inputs else f"\n{header}")

    def write_plan(
        self, stage: int, text: str, prompts: Sequence[str], *, after: Sequence[Sequence[int]] = ()
    ) -> list[str]:
        """Write a policy's plan between tags, which have no notation for ``after``."""
        pending = [markup(f"{self.tags.plan.of(stage).open}\n"), *([self.quote(text), "\n"] if text else [])]
        pair = self._of(stage)[1]
        pieces: list[str] = []
        for number, prompt in enumerate(prompts, 1):
            filled = pair.numbered(number)
            pieces.append(compose([*pending, markup(filled.open), self.quote(prompt), markup(filled.close)]))
            pending = [markup("\n")]
        return [*pieces, compose(pending)]

    def quote(self, text: str) -> str:
        """Insert a space into every tag of outside text, after its first character, and into an assistant's marks."""
        return self._quotable.sub(_quote, text)

    def write_completion(self, stage: int, number: int, written: str) -> str:
        """Mark the closing tag, and quote all other tags except those of a chain of thought."""
        end = len(written) - overlap(written, self._execution_close(stage, number))
        content = self._turn.sub(_quote, written[:end])
        return compose([*self._marked(content), markup(written[end:])])

    def mark(self, written: str) -> str:
        """Mark the tags."""
        return compose(self._marked(written))

    def write_join(
        self, stage: int, executions: Sequence[JoinedExecution], *, plan: str | None = None, inputs: bool = False
    ) -> list[str]:
        """Close the plan, and write each execution between its tags; a failure is in brackets."""
        pending: list[str] = [markup("\n")] if inputs else []
        if plan is not None:
            pending = [markup(f"{closing(plan, self.tags.plan.of(stage).close)}\n")]
        whole = self.tags.executions.of(stage) if executions and not inputs else None
        if whole is not None:
            pending.append(markup(f"{whole.open}\n"))
        pair = self._of(stage)[2]
        texts: list[str] = []
        for number, text, generated, failed in executions:
            filled = pair.numbered(number)
            pending.append(markup(f"{filled.open}\n"))
            if generated:
                texts.append(compose(pending))
                pending = [markup(f"{closing(text, filled.close)}\n")]
            else:
                result = self.quote(f"[failed: {text}]" if failed else text)
                pending += [result, markup(f"{_line_end(result)}{filled.close}\n")]
        if whole is not None:
            pending.append(markup(f"{whole.close}\n"))
        return [*texts, compose(pending)]

    def write_end(self, form: Form, written: str) -> str:
        """Close the chain or the answer."""
        return markup("\n" if form == "plan" else f"{closing(written, self._pair(form).close)}\n")

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
        if role in ("plan", "graph"):  # models are not trained on notes about plans
            return self.write_end("plan", written)
        execution = role == "execution"
        close = self._execution_close(stage, number) if execution else self.tags.answer.close
        note = [markup(f"{closing(written, close)}\n"), self.quote(INVALID.replace("{error}", error))]
        return compose([*note, self.write_header(stage, number) if execution else markup("\n")])

    def read_plan(self, stage: int, form: Form) -> TagPlanReader:
        """Read tags; a model writes the opening tag of its plan itself."""
        return TagPlanReader(self.tags, stage=stage, within=form if form in ("chain", "answer") else "outside")

    def read_turn(self, stage: int, number: int, written: str) -> Result:
        """Take everything before the closing tag, or the beginning of it, as the result."""
        end = len(written) - overlap(written, self._execution_close(stage, number))
        return Result(written[:end], 0, end)

    def _asked(self, task: str) -> str:
        parts = re.split(r"(\{task\})", self._question)
        return compose([self.quote(task) if part == "{task}" else markup(part) for part in parts])

    def _marked(self, text: str) -> Iterator[str]:
        """Cut a text into tags, as markup, and what is between them."""
        position = 0
        for tag in self._tag.finditer(text):
            yield text[position : tag.start()]
            yield markup(tag.group())
            position = tag.end()
        yield text[position:]

    def _execution_close(self, stage: int, number: int) -> str:
        return self._of(stage)[2].close.replace("{number}", str(number))

    def _pair(self, form: Form) -> TagPair:
        return self.tags.chain if form == "chain" else self.tags.answer

    def _of(self, stage: int) -> tuple[int, TagPair, TagPair]:
        """Fill in the stage once a stage, rather than once a subtask."""
        if self._filled[0] != stage:
            self._filled = (stage, self.tags.prompt.of(stage), self.tags.execution.of(stage))
        return self._filled


def _any_of(tags: Iterable[str], *others: str) -> re.Pattern[str]:
    return re.compile("|".join([*map(re.escape, tags), *others]), re.IGNORECASE)  # as the lexer reads them


def _quote(tag: re.Match[str]) -> str:
    return f"{tag.group()[0]} {tag.group()[1:]}"


def _line_end(text: str) -> str:
    """Return what must precede a closing tag that begins a line."""
    return "" if not text or text.endswith("\n") else "\n"
