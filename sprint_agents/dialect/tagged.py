"""The paper's tag format as a dialect; its tags and their layout are in ``tags``."""

import re
from collections.abc import Sequence
from typing import Self

from sprint_agents.errors import PolicyError
from sprint_agents.manifest import Manifest

from .protocol import Form, Role
from .reader import TagReader
from .tags import TagPair, Tags, TagStops, closing, load_tags


class TagDialect:
    r"""Plans and executions between tags (PAPER, Inference), for models that were trained on them.

    ``question`` is how a task opens the context, with ``{task}`` in its place.

    >>> from sprint_agents.dialect.tags import load_tags
    >>> TagDialect(load_tags()).given(1, "", ["Add 1 and 2."])
    ['<Plan_1>\n<prompt_1.1>Add 1 and 2.</prompt_1.1>', '\n']
    """

    def __init__(self, tags: Tags, *, question: str = "{task}\n") -> None:
        self.tags = tags
        self._question = question
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

    def question(self, task: str) -> str:
        """Put the task into its place."""
        return self._question.replace("{task}", task)

    def reader(self, stage: int, form: Form) -> TagReader:
        """Read tags; a plan's own opening tag is the model's."""
        return TagReader(self.tags, stage=stage, within="outside" if form == "plan" else form)

    def opening(self, stage: int, form: Form) -> str:
        """Open the chain or the answer; a model opens its plan itself."""
        return "" if form == "plan" else f"{self._pair(form).open}\n"

    def ending(self, form: Form, written: str) -> str:
        """Close what was opened."""
        return "\n" if form == "plan" else f"{closing(written, self._pair(form).close)}\n"

    def given(self, stage: int, text: str, prompts: Sequence[str]) -> list[str]:
        """Write a policy's plan between tags.

        Raises:
            PolicyError: a text holds a tag.
        """
        tag = re.compile("|".join(map(re.escape, self.tags.special_tokens)))
        for part in (text, *prompts):
            if match := tag.search(part):
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

    def plan_end(self, stage: int, written: str, *, executions: bool) -> str:
        """Close the plan, and open the executions if there are any."""
        end = f"{closing(written, self.tags.plan.of(stage).close)}\n"
        return f"{end}{self.tags.executions.of(stage).open}\n" if executions else end

    def execution(self, stage: int, number: int) -> TagPair:
        """Return the tags around one execution."""
        pair = self._of(stage)[2].numbered(number)
        return TagPair(f"{pair.open}\n", pair.close)

    def executions_end(self, stage: int) -> str:
        """Close the executions."""
        return f"{self.tags.executions.of(stage).close}\n"

    def header(self, stage: int, number: int) -> str:
        """Open an execution on a line of its own."""
        return f"\n{self._of(stage)[2].open.replace('{number}', str(number))}\n"

    def schema(self, role: Role) -> str | None:
        """Return None: tags are no JSON."""
        return None

    def _pair(self, form: Form) -> TagPair:
        return self.tags.chain if form == "chain" else self.tags.answer

    def _of(self, stage: int) -> tuple[int, TagPair, TagPair]:
        """Fill in the stage once, not once a subtask."""
        if self._filled[0] != stage:
            self._filled = (stage, self.tags.prompt.of(stage), self.tags.execution.of(stage))
        return self._filled
