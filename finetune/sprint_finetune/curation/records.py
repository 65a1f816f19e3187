"""The records that the stages of the pipeline exchange: one frozen type per stage, one JSON line per record.

Line numbers start at 1, and a range includes both ends. ``lines`` defines what counts as a line.
"""

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from sprint_agents.trajectory import Metrics
from sprint_finetune.grading import By

_FROZEN = ConfigDict(frozen=True, extra="forbid")

StageName = Literal["read", "answer", "steps", "dag", "pack", "filter", "reformat"]
"""The stages of the pipeline, in order."""

Reason = Literal[
    # read
    "unreadable",
    "missing_field",
    "empty_trace",
    "too_long",
    "duplicate",
    "tag_in_text",
    # answer
    "no_answer",
    "wrong_answer",
    "undecided_answer",
    # steps
    "not_json",
    "several_answers",
    "wrong_shape",
    "out_of_range",
    "overlap",
    "uncovered",
    "empty_step",
    "no_prompt",
    "context_overflow",
    # dag
    "unknown_step",
    "cycle",
    "later_parent",
    "unlinked",
    # filter
    "low_ratio",
    "too_many_stages",
    "not_parallel",
    "violations",
    "no_task",
    "low_gain",
    # reformat
    "not_well_formed",
]
"""The closed set of reasons for rejecting a trace."""

Split = Literal["train", "eval"]
"""Which part of the data a sample belongs to."""


class LineRange(NamedTuple):
    """Lines ``first`` to ``last``, both included, counted from 1."""

    first: int
    last: int


class Rejection(BaseModel):
    """A rejected trace: the stage that rejected it, the reason, and a detailed explanation."""

    model_config = _FROZEN

    id: str
    stage: StageName
    reason: Reason
    detail: str


class Trace(BaseModel):
    """A sequential reasoning trace from a source. ``answer`` is the reference answer, not the trace's own.

    ``format`` is the format of its row, if that was recognised.
    """

    model_config = _FROZEN

    id: str
    problem: str
    trace: str
    answer: str
    format: str = "own"


class Verdict(BaseModel):
    """The correct answer that a trace states, and the check that confirmed it."""

    model_config = _FROZEN

    id: str
    stated: str
    by: By


class Step(BaseModel):
    """One step of a trace: the lines of its parts.

    Attributes:
        number: from 1, in the order of the steps' first lines.
        plan: lines that decide on the step or describe it.
        execution: lines that carry the step out; empty for a step that is only planned.
        comments: lines of the step that are neither.
        description: a short description for people.
        prompt: the task as written for an executor; None if the step's own plan lines are the prompt.
        restates: whether the prompt replaces the plan lines, which open with a word such as "Now"
            (``headings.heading_task``).
    """

    model_config = _FROZEN

    number: int = Field(ge=1)
    plan: tuple[LineRange, ...] = ()
    execution: tuple[LineRange, ...] = ()
    comments: tuple[LineRange, ...] = ()
    description: str = ""
    prompt: str | None = None
    restates: bool = False


class Extraction(BaseModel):
    """The steps of a trace, numbered 1, 2, … Together they cover each line exactly once (``extractor.steps_fault``)."""

    model_config = _FROZEN

    id: str
    steps: tuple[Step, ...]


class Dag(BaseModel):
    """The dependencies between steps: ``parents[k]`` are the parents of step ``k + 1``, all with lower numbers."""

    model_config = _FROZEN

    id: str
    parents: tuple[tuple[int, ...], ...]


class Packed(BaseModel):
    """Steps in stages: ``stages[i]`` are the numbers of the steps in stage ``i + 1``. Short executions are folded."""

    model_config = _FROZEN

    id: str
    steps: tuple[Step, ...]
    parents: tuple[tuple[int, ...], ...]
    stages: tuple[tuple[int, ...], ...]


class Violation(BaseModel):
    """Part of step ``step`` uses ``value``, which only the execution of ``source`` in the same stage makes."""

    model_config = _FROZEN

    step: int
    part: Literal["plan", "execution"]
    source: int
    value: str


class Shape(BaseModel):
    """A packed trace in numbers. ``ratio`` is steps per stage, ``width`` the executions in the widest stage."""

    model_config = _FROZEN

    id: str
    steps: int
    stages: int
    width: int
    ratio: float
    violations: tuple[Violation, ...] = ()


class Sample(BaseModel):
    """A curated sample: the trajectory, and its sequential twin from the same trace.

    Attributes:
        text: the trajectory in the tag dialect; ``Trajectory.from_text`` reads it without diagnostics.
        chain: the same problem, lines and answer as one chain of thought (the paper's RFT baseline).
        shape: steps, stages and parallelisation ratio of the packed trace.
        metrics: of ``text``, counted in words.
        chain_metrics: of ``chain``, counted in words.
    """

    model_config = _FROZEN

    id: str
    problem: str
    answer: str
    split: Split
    text: str
    chain: str
    shape: Shape
    metrics: Metrics
    chain_metrics: Metrics
