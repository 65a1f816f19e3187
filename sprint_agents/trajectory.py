"""A finished trajectory, read back from its text: stages, subtasks, answer, and what it cost (PAPER, Metrics).

The counts are as good as the text allows: a run's own ``usage`` knows every token that was generated, retries too.
Counted is what the models write, which is not the runtime's share: the rest of a closing tag after its stop
(``</Plan_|1>``), the opening tag of an execution, and the tags around all executions of a stage.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from .dialects.completions import Diagnostic, answer_value
from .dialects.tags.format import Tags, load_tags
from .dialects.tags.outline import Outline, PlanPart, outline
from .usage import Branch, parallelisation_ratio, sequential_tokens, sequential_tokens_strict

TokenUnit = Literal["words", "tokens"]
"""What a trajectory is measured in, without the model's tokenizer or with it."""

_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)
_WORD = re.compile(r"\w+|[^\w\s]")


def count_words(text: str) -> int:
    """Count words, numbers and punctuation marks: an estimate of tokens that needs no tokenizer.

    >>> count_words("25 + 7*3 is forty-six.")
    10
    """
    return sum(1 for _ in _WORD.finditer(text))


class TrajectorySubtask(BaseModel):
    """One subtask; ``number`` is written ``stage.index``, as in its tags.

    ``prompt`` is None for an execution that no prompt asked for, ``execution`` is None where there is none.
    ``plan_tokens`` are the plan's up to the end of the prompt, ``execution_tokens`` the execution's, tags not counted.
    """

    model_config = _FROZEN

    number: str
    index: int
    prompt: str | None
    execution: str | None
    plan_tokens: int
    execution_tokens: int


class TrajectoryStage(BaseModel):
    """One plan and its subtasks, those without a prompt last; the text of the ``plan`` includes the prompts."""

    model_config = _FROZEN

    number: int
    plan: str
    plan_tokens: int
    subtasks: tuple[TrajectorySubtask, ...]


class Metrics(BaseModel):
    """The cost of a trajectory, counted in ``token_unit``.

    Attributes:
        token_unit: ``tokens`` of a tokenizer, or ``words`` where none was given (see ``count_words``).
        sequential_tokens: the critical path as the paper counts it: without tags and without what a planner writes
            after its last prompt. A chain of thought and the answer belong to it.
        sequential_tokens_strict: the critical path with both.
        total_tokens: everything that the models wrote, tags included.
        stages: how many plans there are.
        width: the most subtasks of one stage.
        parallelisation_ratio: steps per stage, see ``metrics.parallelisation_ratio``.
    """

    model_config = _FROZEN

    token_unit: TokenUnit
    sequential_tokens: int
    sequential_tokens_strict: int
    total_tokens: int
    stages: int
    width: int
    parallelisation_ratio: float


class Trajectory(BaseModel):
    r"""A finished trajectory: ``question``, maybe a ``chain`` of thought, ``stages``, and the answer.

    ``answer`` is the content of the answer's ``\boxed{…}``, or all of ``answer_text`` if it has none.

    >>> text = "6*7+1?\n<Plan_1>\n<prompt_1.1>6*7</prompt_1.1>\n</Plan_1>\n<Execution_1>\n<execution_1.1>\n42\n"
    >>> text += "</execution_1.1>\n</Execution_1>\n<Final_answer>\n\\boxed{43}\n</Final_answer>"
    >>> trajectory = Trajectory.from_text(text)
    >>> trajectory.answer, trajectory.stages[0].subtasks[0].execution, trajectory.metrics.sequential_tokens
    ('43', '42', 9)
    >>> trajectory.to_text() == text
    True
    """

    model_config = _FROZEN

    question: str
    chain: str | None
    stages: tuple[TrajectoryStage, ...]
    answer: str | None
    answer_text: str | None
    diagnostics: tuple[Diagnostic, ...]
    metrics: Metrics

    @classmethod
    def from_text(
        cls, text: str, *, count_tokens: Callable[[str], int] | None = None, tags: Tags | None = None
    ) -> Self:
        """Read a trajectory, also from a raw log; never raises on what a model wrote.

        ``count_tokens`` counts the tokens of a piece of text, special tokens not added (default: ``count_words``);
        ``tags`` default to version 1.
        Marks of chat templates, missing closing tags and missing ``<Execution_i>`` are accepted. Every guess is in
        ``diagnostics``, with positions in ``text``.
        """
        used = tags or load_tags()
        found = outline(text, used)
        counting = _Counting(used, count_tokens or count_words)
        counting.frame(found)
        stages = tuple(counting.stage(plan) for plan in found.plans)
        subtasks = [len(stage.subtasks) for stage in stages]
        return cls(
            question=found.question.strip(),
            chain=None if found.chain is None else found.chain.strip(),
            stages=stages,
            answer=None if found.answer is None else answer_value(found.answer),
            answer_text=None if found.answer is None else found.answer.strip(),
            diagnostics=tuple(found.diagnostics),
            metrics=Metrics(
                token_unit="words" if count_tokens is None else "tokens",
                sequential_tokens=counting.cost.sequential,
                sequential_tokens_strict=counting.cost.strict,
                total_tokens=counting.cost.total,
                stages=len(stages),
                width=max(subtasks, default=0),
                parallelisation_ratio=parallelisation_ratio(subtasks),
            ),
        )

    def to_text(self, *, tags: Tags | None = None) -> str:
        """Write the trajectory in the layout of the runtime; reading a well-formed one back gives an equal one."""
        used = tags or load_tags()
        lines: list[str] = [self.question] if self.question else []
        if self.chain is not None:
            lines += [used.chain.open, self.chain, used.chain.close]
        for stage in self.stages:
            lines += [used.plan.open.format(stage=stage.number), stage.plan, used.plan.close.format(stage=stage.number)]
            executed = [subtask for subtask in stage.subtasks if subtask.execution is not None]
            if executed:
                lines.append(used.executions.open.format(stage=stage.number))
                for subtask in executed:
                    label = {"stage": stage.number, "number": subtask.index}
                    lines += [used.execution.open.format(**label), subtask.execution or ""]
                    lines.append(used.execution.close.format(**label))
                lines.append(used.executions.close.format(stage=stage.number))
        if self.answer_text is not None:
            lines += [used.answer.open, self.answer_text, used.answer.close]
        return "\n".join(lines)


@dataclass(slots=True)
class _Cost:
    """Tokens of the critical path, as the paper counts it and strictly, and of everything."""

    sequential: int = 0
    strict: int = 0
    total: int = 0

    def add(self, *, content: int, tags: int) -> None:
        """Add tokens that are written in sequence."""
        self.sequential += content
        self.strict += content + tags
        self.total += content + tags


class _Counting:
    """Counts a trajectory part by part."""

    def __init__(self, tags: Tags, count: Callable[[str], int]) -> None:
        self._tags = tags
        self._count = count
        self.cost = _Cost()

    def _tokens(self, text: str) -> int:
        # A tokenizer may add special tokens to an empty text.
        return self._count(text) if text else 0

    def frame(self, found: Outline) -> None:
        """Count the text around the stages."""
        if found.chain is not None:
            self.cost.add(content=self._tokens(found.chain), tags=self._tokens(self._tags.chain.close))
        if found.answer is not None:
            around = self._tokens(self._tags.answer.open) + self._tokens(self._tags.answer.close)
            self.cost.add(content=self._tokens(found.answer), tags=around)

    def stage(self, plan: PlanPart) -> TrajectoryStage:
        """Count one stage, and make its record."""
        before, (content, tags) = self._plan(plan)
        stop = self._tokens(self._tags.stops.execution[0])
        prompts = plan.reader.prompts
        branches: list[Branch] = []
        strict: list[Branch] = []
        subtasks: list[TrajectorySubtask] = []
        for index in [*prompts, *(index for index in plan.executions if index not in prompts)]:
            execution = plan.executions.get(index)
            plan_content, plan_tags = before.get(index, (content, tags))
            tokens = 0 if execution is None else self._tokens(execution)
            branches.append((plan_content, tokens))
            strict.append((plan_content + plan_tags, 0 if execution is None else tokens + stop))
            subtasks.append(
                TrajectorySubtask(
                    number=f"{plan.number}.{index}",
                    index=index,
                    prompt=prompts[index].prompt if index in prompts else None,
                    execution=None if execution is None else execution.strip(),
                    plan_tokens=plan_content,
                    execution_tokens=tokens,
                )
            )
        self.cost.sequential += sequential_tokens(content, branches)
        self.cost.strict += sequential_tokens_strict(content + tags, strict)
        self.cost.total += content + tags + sum(execution for _, execution in strict)
        text = (plan.reader.plan or "").strip()
        return TrajectoryStage(number=plan.number, plan=text, plan_tokens=content, subtasks=tuple(subtasks))

    def _plan(self, plan: PlanPart) -> tuple[dict[int, tuple[int, int]], tuple[int, int]]:
        """Count content and tags up to the end of each prompt, by its number, and of the whole plan."""
        ends = {prompt.end: number for number, prompt in plan.reader.prompts.items()}
        before: dict[int, tuple[int, int]] = {}
        content, position = 0, 0
        tags = self._tokens(self._tags.plan.open.format(stage=plan.number))
        for tag in plan.reader.spans:
            content += self._tokens(plan.text[position : tag.start])
            if tag.start in ends:
                before[ends[tag.start]] = (content, tags)
            ends_plan = tag.name == "plan" and tag.closing
            tags += self._tokens(self._tags.stops.plan[0] if ends_plan else tag.text)
            if tag.end in ends:
                before[ends[tag.end]] = (content, tags)
            position = tag.end
        return before, (content, tags)
