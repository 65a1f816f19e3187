"""Write a packed trace in the tag dialect, and its sequential twin (arXiv 2506.05745, section 3.2).

Each line of the trace is written once: plan lines and comments in the plan, execution lines in the execution, the
conclusion in the final answer. Comments that follow the execution stay after it, because a plan must not reveal its
result. Reformatting adds tags, separators, written prompts, and a line that names what a later plan builds on. It
omits the "Now" at the start of a named part's heading, because the prompt replaces that heading.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pydantic import BaseModel, ConfigDict

from sprint_agents.dialects.completions import boxed
from sprint_agents.dialects.tags.format import Tags, load_tags

from .lines import in_words, lines_at, lines_of, numbers_in
from .records import Packed, Step, Trace


class Style(BaseModel):
    """How plans are written: with a line between steps, and with a line that names what a later plan builds on.

    Without ``breaks``, no line break follows the tags of a plan, so a planner writes one token less per subtask.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    separators: bool = True
    basis: bool = True
    breaks: bool = True

    @property
    def after_tag(self) -> str:
        """The text after each tag of a plan."""
        return "\n" if self.breaks else ""


@dataclass(frozen=True, slots=True)
class StepText:
    """The lines of one packed step, grouped by where they are written.

    The ``prompt`` of an executed step is its own plan lines unless ``written`` for the executor. A written prompt may
    replace the ``heading``: plan lines that appear nowhere else.
    """

    plan: tuple[str, ...]
    execution: tuple[str, ...]
    prompt: tuple[str, ...]
    written: bool
    heading: tuple[str, ...] = ()


def text_of_step(step: Step, lines: Sequence[str]) -> StepText:
    """Group the lines of a packed step."""
    execution = numbers_in(step.execution)
    others = sorted(numbers_in([*step.plan, *step.comments]))
    if not execution:
        return StepText(tuple(lines_at(lines, others)), (), (), written=False)
    late = {number for number in numbers_in(step.comments) if number > execution[0]}
    early = tuple(lines_at(lines, [number for number in others if number not in late]))
    run = tuple(lines_at(lines, sorted([*execution, *late])))
    if step.prompt is None:
        return StepText((), run, early, written=False)
    prompt = tuple(step.prompt.splitlines())
    if not step.restates:
        return StepText(early, run, prompt, written=True)
    heading = numbers_in(step.plan)
    comments = tuple(lines_at(lines, [number for number in others if number not in late and number not in heading]))
    return StepText(comments, run, prompt, written=True, heading=tuple(lines_at(lines, heading)))


def prompts_of(trace: Trace, packed: Packed) -> list[str]:
    """Return the prompts of the executed steps."""
    lines = lines_of(trace.trace).chain
    return ["\n".join(text_of_step(step, lines).prompt) for step in packed.steps if step.execution]


def trajectory_text(trace: Trace, packed: Packed, stated: str, *, style: Style | None = None) -> str:
    r"""Write the trajectory. ``stated`` is the answer to use if the conclusion of the trace has none in ``\boxed``."""
    style = style or Style()
    tags = load_tags()
    lines = lines_of(trace.trace).chain
    written = [trace.problem.strip()]
    places = executions_of(packed)
    for number, stage in enumerate(packed.stages, 1):
        steps = [packed.steps[step - 1] for step in stage]
        basis = basis_of(packed, number) if style.basis else ""
        opened = [tags.plan.open.format(stage=number), style.after_tag, *([f"{basis}\n"] if basis else [])]
        plan = _plan(steps, lines, places, style, tags)
        written.append("".join([*opened, *plan, tags.plan.close.format(stage=number)]))
        written += _executions(number, steps, lines, places, tags)
    return "\n".join([*written, *_answer(trace, stated, tags)])


def chain_text(trace: Trace, stated: str) -> str:
    """Write the sequential twin: the same problem, lines and answer as one chain of thought."""
    tags = load_tags()
    lines = lines_of(trace.trace).chain
    return "\n".join([trace.problem.strip(), tags.chain.open, *lines, tags.chain.close, *_answer(trace, stated, tags)])


def executions_of(packed: Packed) -> dict[int, tuple[int, int]]:
    """Map the number of each executed step to its stage and its position among the executions of that stage."""
    return {
        step: (number, place)
        for number, stage in enumerate(packed.stages, 1)
        for place, step in enumerate((step for step in stage if packed.steps[step - 1].execution), 1)
    }


def basis_of(packed: Packed, stage: int) -> str:
    """Write the line that names the executions which a stage builds on, or an empty string if there are none."""
    places = executions_of(packed)
    parents = {parent for step in packed.stages[stage - 1] for parent in packed.parents[step - 1]}
    names = sorted(places[parent] for parent in parents if parent in places)
    return f"Based on {', '.join(_runs(names))}:" if names else ""


def _runs(names: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Name executions. Three or more in a row are named by the first and the last."""
    for _, group in groupby(enumerate(names), key=lambda pair: (pair[1][0], pair[1][1] - pair[0])):
        run = [f"execution_{stage}.{place}" for _, (stage, place) in group]
        if len(run) > 2:
            yield f"{run[0]} to {run[-1]}"
        else:
            yield from run


def _plan(
    steps: Sequence[Step], lines: Sequence[str], places: dict[int, tuple[int, int]], style: Style, tags: Tags
) -> Iterator[str]:
    for index, step in enumerate(steps):
        if index and style.separators:
            yield f"{tags.separator}\n"
        text = text_of_step(step, lines)
        yield from (f"{line}\n" for line in text.plan)
        if step.number in places:
            stage, place = places[step.number]
            prompt = tags.prompt.of(stage).numbered(place)
            yield prompt.open + "\n".join(text.prompt) + prompt.close + style.after_tag


def _executions(
    number: int, steps: Sequence[Step], lines: Sequence[str], places: dict[int, tuple[int, int]], tags: Tags
) -> Iterator[str]:
    executed = [step for step in steps if step.number in places]
    if not executed:
        return
    yield tags.executions.open.format(stage=number)
    for step in executed:
        execution = tags.execution.of(number).numbered(places[step.number][1])
        yield execution.open
        yield from text_of_step(step, lines).execution
        yield execution.close
    yield tags.executions.close.format(stage=number)


def _answer(trace: Trace, stated: str, tags: Tags) -> Iterator[str]:
    conclusion = lines_of(trace.trace).conclusion
    yield tags.answer.open
    yield from conclusion
    # An answer in words, such as "no solution", is not put into a box.
    verbal = [line.strip() for line in conclusion] == [stated] and in_words(stated)
    if not verbal and boxed("\n".join(conclusion)) is None:
        yield rf"\boxed{{{stated}}}"
    yield tags.answer.close
