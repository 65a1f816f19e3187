"""The problems of an evaluation: held-out problems of the built-in tasks, and public benchmarks in their own format."""

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sprint_agents.errors import ConfigurationError
from sprint_agents.gym import GymTask
from sprint_agents.nano.tasks import Task, recognise
from sprint_finetune.curation.formats import fields_of
from sprint_finetune.curation.rows import BadRow, rows_of
from sprint_finetune.nano import arithmetic, countdown, multiplication
from sprint_finetune.nano.splits import Family

_CHOICES = "ABCD"


class Case(BaseModel):
    """One problem: the ``task`` as a model gets it, and the reference ``answer`` if no program can check the task.

    A problem of reasoning-gym is its ``gym`` task, whose answers only a ``Gym`` can check.

    >>> Case(id="1", task="Use 50, 25, 7, 3 to make 79.").check("50+25+(7-3)")
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    task: str
    answer: str | None = None
    gym: GymTask | None = None

    def check(self, answer: str) -> bool | None:
        """Return whether ``answer`` is correct, or None if that cannot be decided by a program or by comparing text."""
        if (task := recognise(self.task)) is not None:
            return task.check(answer)
        if self.answer is not None and answer.strip() == self.answer.strip():
            return True
        return None


def held_out(tasks: Iterator[Task], *, name: str, count: int) -> list[Case]:
    """Take the first ``count`` problems that a generator of a built-in task draws."""
    return [
        Case(id=f"{name}-{number}", task=task.prompt) for number, task in enumerate(itertools.islice(tasks, count), 1)
    ]


def held_out_problems(family: Family, *, seed: int = 0) -> Iterator[Task]:
    """Draw the held-out problems of a built-in task; Countdown has four numbers. One order for each ``seed``."""
    if family == "countdown":
        return (task for task, _ in countdown.problems(seed=seed, split="held_out", counts=(4,)))
    drawn = {"arithmetic": arithmetic.problems, "multiplication": multiplication.problems}[family]
    return (solved.task for solved in drawn(seed=seed, split="held_out"))


def load_cases(path: Path, *, limit: int | None = None) -> list[Case]:
    """Read a benchmark's file in its published form: JSON lines, a JSON array, Parquet or CSV.

    The names of the fields determine the format: MATH and MATH-500, AIME, GSM8K, GPQA, Countdown, our own ``{id, task,
    answer}``, or any other with a problem and an answer that curation recognises. GPQA's choices are shuffled by a hash
    of the question, so their order is the same in every run.

    Raises:
        ConfigurationError: the file is missing or unreadable, its fields match no known format, or an id is repeated.
    """
    cases: dict[str, Case] = {}
    for number, row in enumerate(itertools.islice(rows_of(path), limit), 1):
        if isinstance(row, BadRow):
            raise ConfigurationError(f"{path}, {row.place}: {row.detail}")
        case = _case(path, number, row.columns)
        if case.id in cases:
            raise ConfigurationError(
                f"{path}, {row.place}: the id {case.id!r} is not unique: give every case its own, or none"
            )
        cases[case.id] = case
    if not cases:
        raise ConfigurationError(f"{path} has no cases")
    return [*cases.values()]


def _case(path: Path, number: int, row: Mapping[str, Any]) -> Case:
    name = f"{path.stem}-{number}"
    reader = next((read for fields, read in _FORMATS if fields <= row.keys()), None)
    if reader is not None:
        return reader(name, row)
    found = fields_of(row)
    if found.problem is None or found.answer is None:
        known = "; ".join(", ".join(sorted(fields)) for fields, _ in _FORMATS)
        raise ConfigurationError(
            f"{path}, row {number} has the fields {', '.join(row)}: "
            f"a case needs the fields of a known format ({known}; or a problem and an answer)"
        )
    return Case(id=found.id or name, task=found.problem, answer=found.answer)


def _own(name: str, row: Mapping[str, Any]) -> Case:
    answer = row.get("answer")
    return Case(id=str(row.get("id", name)), task=str(row["task"]), answer=None if answer is None else str(answer))


def _countdown(name: str, row: Mapping[str, Any]) -> Case:
    numbers = ", ".join(str(number) for number in sorted(row["nums"], reverse=True))
    return Case(id=str(row.get("id", name)), task=f"Use {numbers} to make {row['target']}.")


def _gpqa(name: str, row: Mapping[str, Any]) -> Case:
    question = str(row["Question"]).strip()
    right = str(row["Correct Answer"]).strip()
    choices = [right, *(str(row[f"Incorrect Answer {number}"]).strip() for number in (1, 2, 3))]
    random.Random(hashlib.sha256(question.encode()).digest()).shuffle(choices)
    listed = "\n".join(f"{letter}) {choice}" for letter, choice in zip(_CHOICES, choices, strict=True))
    task = f"{question}\n\n{listed}\n\nAnswer with the letter of the right choice."
    return Case(id=str(row.get("Record ID") or name), task=task, answer=_CHOICES[choices.index(right)])


_FORMATS: tuple[tuple[set[str], Callable[[str, Mapping[str, Any]], Case]], ...] = (
    ({"task"}, _own),
    ({"nums", "target"}, _countdown),
    ({"Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"}, _gpqa),
)
