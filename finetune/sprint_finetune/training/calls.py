r"""Cut a finished trajectory into the model calls of the run that would write it.

The planner's requests form one path, because each context continues the one before. An executor's path leaves the
planner's at the end of its prompt, continues with a header and never contains a sibling (arXiv 2506.05745, section
3.1). The runtime's own dialect writes all text between the completions, so a path has the same pieces, and the same
token ids, as in a run.

A stage that ended early has prompts without executions. The planner's path then has the executions that joined, as in
the run, and there is no path for the others.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sprint_agents.dialects.base import JoinedExecution
from sprint_agents.dialects.tags.dialect import TagDialect
from sprint_agents.dialects.tags.outline import Outline, PlanPart, outline
from sprint_agents.errors import ConfigurationError
from sprint_agents.markup import compose, markup


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a call that the runtime encodes by itself.

    Its markup is the only part of ``text`` with control tokens (see ``sprint_agents.markup``). ``learned`` is its
    weight in training, from 0 (context only) to 1.
    """

    text: str
    learned: float


@dataclass(frozen=True, slots=True)
class Call:
    """One path of a trajectory: all requests whose contexts are prefixes of one another.

    ``found`` says whether this part of a search reached the goal; calls cut from text leave it False.
    """

    role: Literal["planner", "executor", "chain"]
    pieces: tuple[Piece, ...]
    found: bool = False


def calls_of(text: str, *, problem: str | None = None, dialect: TagDialect | None = None) -> list[Call]:
    r"""Cut a trajectory in tags into calls: the planner's path, then the executors' paths in order; or a single chain.

    ``text`` may start with the question. Pass ``problem`` if it does not. In a stage that ended early, only some of the
    prompts have executions.

    >>> text = "6*7+1?\n<Plan_1>\n<prompt_1.1>6*7</prompt_1.1>\n</Plan_1>\n<Execution_1>\n<execution_1.1>\n42\n"
    >>> text += "</execution_1.1>\n</Execution_1>\n<Final_answer>\n\\boxed{43}\n</Final_answer>"
    >>> planner, executor = calls_of(text)
    >>> "".join(piece.text for piece in planner.pieces) == text
    True
    >>> [piece.text for piece in executor.pieces[-2:]]
    ['\n<execution_1.1>\n', '42\n</execution_']

    Raises:
        ConfigurationError: the text is not a well-formed trajectory, or it starts with another problem.
    """
    dialect = dialect or TagDialect.of(None)
    found = outline(text, dialect.tags)
    question = Piece(dialect.write_task(_task(text, found, problem, dialect)), False)
    if found.chain is not None and not found.plans:
        opening = dialect.write_opening(1, "chain")
        thought = found.chain.removeprefix("\n")  # the opening already ends with this line break
        written = compose([thought, markup(f"{dialect.tags.chain.close}\n"), _answer(found, dialect)])
        return [Call("chain", (question, Piece(opening, False), Piece(written, True)))]
    pieces = [question]
    executors: list[Call] = []
    for number, part in enumerate(found.plans):
        lead = _lead(found, dialect) if number == 0 else ""
        plan = f"{lead}{dialect.tags.plan.of(part.number).open}"
        ends = {index: len(plan) + prompt.end for index, prompt in part.reader.prompts.items()}
        plan += part.text.removesuffix(dialect.tags.plan.of(part.number).close) + dialect.tags.stops.plan[0]
        before = tuple(Piece(piece.text, False) for piece in pieces)
        for index in _executed(part):
            end = ends[index]
            header = dialect.write_header(part.number, index)
            written = dialect.mark(_execution(part, index, dialect))
            context = (*before, Piece(dialect.mark(plan[:end]), False), Piece(header, False))
            executors.append(Call("executor", (*context, Piece(written, True))))
        pieces += [Piece(dialect.mark(plan), True), *_joined(part, plan, dialect)]
    pieces.append(Piece(_answer(found, dialect), True))
    return [Call("planner", tuple(pieces)), *executors]


def as_one_text(call: Call) -> Call:
    """Learn everything after the question, including executions and tags: the paper's plain fine-tuning.

    Source: arXiv 2506.05745, section 3.3.
    """
    first, *rest = call.pieces
    return Call(call.role, (first, *(Piece(piece.text, True) for piece in rest)))


def _task(text: str, found: Outline, problem: str | None, dialect: TagDialect) -> str:
    """Return the problem of a trajectory, or raise if the trajectory is malformed."""
    notes = _notes(text, dialect)
    executed = {part.number for part in found.plans if part.executions}
    faults = [
        fault
        for fault in found.diagnostics
        if not any(fault.position in note for note in notes)
        and not (fault.kind == "missing_execution" and fault.stage in executed)
    ]
    if faults:
        raise ConfigurationError(
            "this is not a well-formed trajectory: "
            + "; ".join(f"{fault.message} (at character {fault.position})" for fault in faults[:3])
        )
    asked = found.question.strip()
    if problem is None and not asked:
        raise ConfigurationError("the trajectory does not start with a question: pass its problem")
    if problem is not None and asked not in ("", problem.strip(), dialect.quote(problem.strip())):
        raise ConfigurationError(
            f"the trajectory starts with {asked[:80]!r}, which differs from its problem {problem[:80]!r}"
        )
    return asked if problem is None else problem.strip()


def _notes(text: str, dialect: TagDialect) -> list[range]:
    """Find the notes in place of executions, such as "No prompt to execute.", where a plan has no prompt.

    The logs that were published with the paper have them. A run has no such text, so it is left out.
    """
    pair = dialect.tags.executions
    before, after = (re.escape(mark).replace(r"\{stage\}", r"(?P=stage)") for mark in (pair.open, pair.close))
    before = before.replace("(?P=stage)", r"(?P<stage>\d+)")
    found = re.finditer(rf"{before.strip()}(?P<note>[^<]*){after.strip()}", text)
    return [range(*match.span("note")) for match in found if match["note"].strip()]


def _lead(found: Outline, dialect: TagDialect) -> str:
    """Return the chain of thought that precedes the first plan."""
    pair = dialect.tags.chain
    return "" if found.chain is None else f"{pair.open}{found.chain}{pair.close}\n"


def _answer(found: Outline, dialect: TagDialect) -> str:
    pair = dialect.tags.answer
    return compose([markup(pair.open), found.answer or "", markup(pair.close)])


def _executed(part: PlanPart) -> list[int]:
    """List the prompts that have executions, all of them unless the stage ended early."""
    return [index for index in part.reader.prompts if index in part.executions]


def _execution(part: PlanPart, index: int, dialect: TagDialect) -> str:
    return part.executions[index] + dialect.tags.stops.execution[0]


def _joined(part: PlanPart, plan: str, dialect: TagDialect) -> Iterator[Piece]:
    """Return what the planner reads after its plan, in the pieces in which the runtime appends it."""
    joined: list[JoinedExecution] = []
    for index in _executed(part):
        written = dialect.write_completion(part.number, index, _execution(part, index, dialect))
        joined.append(JoinedExecution(index, written, generated=True))
    *before, end = dialect.write_join(part.number, joined, plan=plan)
    for text, execution in zip(before, joined, strict=True):
        yield Piece(text, False)
        yield Piece(execution.text, False)
    yield Piece(end, False)
