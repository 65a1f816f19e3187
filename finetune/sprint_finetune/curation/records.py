"""The records that stages of the pipeline hand on: one frozen type per stage, one JSON line each.

Line numbers count from 1 and a range includes both ends. What counts as a line is in ``lines``.
"""

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from sprint_agents.trajectory import Metrics

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
    # filter
    "low_ratio",
    "too_many_stages",
    "not_parallel",
    "violations",
    # reformat
    "not_well_formed",
]
"""The closed set of reasons why a trace does not become a sample."""

Split = Literal["train", "eval"]
"""Which part of the data a sample belongs to."""


class LineRange(NamedTuple):
    """Lines ``first`` to ``last``, both included, counted from 1."""

    first: int
    last: int


class Rejection(BaseModel):
    """A trace left out: by which stage, why, and what exactly was found."""

    model_config = _FROZEN

    id: str
    stage: StageName
    reason: Reason
    detail: str


class Trace(BaseModel):
    """A sequential reasoning trace as its source has it; ``answer`` is the reference, not the trace's own."""

    model_config = _FROZEN

    id: str
    problem: str
    trace: str
    answer: str


class Verdict(BaseModel):
    """The right answer that a trace states, and who says that it is right."""

    model_config = _FROZEN

    id: str
    stated: str
    by: Literal["task", "text", "math-verify"]


class Step(BaseModel):
    """One step of a trace: where its parts stand.

    Attributes:
        number: from 1, in the order of the steps' first lines.
        plan: what decides on the step or describes it.
        execution: what carries it out; empty for a step that is plan only.
        comments: lines of the step that are neither.
        description: a few words for people.
        prompt: the task as written for an executor; None if the step's own plan lines serve as the prompt.
        restates: whether the prompt stands in the place of the plan lines, which open with a word such as "Now"
            (``headings.restated``).
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
    """The steps of a trace, numbered 1, 2, …; they cover each line once (``extraction.fault_of`` says if not)."""

    model_config = _FROZEN

    id: str
    steps: tuple[Step, ...]


class Dag(BaseModel):
    """What each step builds on: ``parents[k]`` are the parents of step ``k + 1``, each of a lower number."""

    model_config = _FROZEN

    id: str
    parents: tuple[tuple[int, ...], ...]


class Packed(BaseModel):
    """Steps in stages: ``stages[i]`` are the numbers of the steps of stage ``i + 1``; short executions are folded."""

    model_config = _FROZEN

    id: str
    steps: tuple[Step, ...]
    parents: tuple[tuple[int, ...], ...]
    stages: tuple[tuple[int, ...], ...]


class Violation(BaseModel):
    """A part of step ``step`` uses ``value``, which only the execution of ``source`` in the same stage has."""

    model_config = _FROZEN

    step: int
    part: Literal["plan", "execution"]
    source: int
    value: str


class Shape(BaseModel):
    """A packed trace in numbers; ``ratio`` is steps per stage (PAPER, Filtering), ``width`` the most executions."""

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
        chain: the same problem, lines and answer as one chain of thought (PAPER: RFT).
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
