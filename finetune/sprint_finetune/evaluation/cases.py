"""The problems of an evaluation: held-out problems of the built-in tasks, and public benchmarks in their own format."""

import csv
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sprint_agents.errors import ConfigurationError
from sprint_agents.gym import GymTask
from sprint_agents.nano.tasks import Task, recognise

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


def load_cases(path: Path, *, limit: int | None = None) -> list[Case]:
    """Read a benchmark's file: MATH-500 (JSONL), GPQA (CSV), Countdown (JSONL), or our own ``{id, task, answer}``.

    The names of the fields determine the format. GPQA's choices are shuffled by a hash of the question, so their order
    is the same in every run.

    Raises:
        ConfigurationError: the file is missing or unreadable, or its fields match no known format.
    """
    cases: list[Case] = []
    for number, row in enumerate(itertools.islice(_rows(path), limit), 1):
        reader = next((read for fields, read in _FORMATS if fields <= row.keys()), None)
        if reader is None:
            known = "; ".join(", ".join(sorted(fields)) for fields, _ in _FORMATS)
            raise ConfigurationError(
                f"{path}, row {number} has the fields {', '.join(row)}: "
                f"a case needs the fields of a known format ({known})"
            )
        cases.append(reader(f"{path.stem}-{number}", row))
    if not cases:
        raise ConfigurationError(f"{path} has no cases")
    return cases


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            if path.suffix == ".csv":
                yield from csv.DictReader(lines)
                return
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _object(path, number, line)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _object(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise ConfigurationError(f"{path}, line {number} is not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise ConfigurationError(f"{path}, line {number} is not a JSON object")
    return row  # pyright: ignore[reportUnknownVariableType]


def _own(name: str, row: Mapping[str, Any]) -> Case:
    answer = row.get("answer")
    return Case(id=str(row.get("id", name)), task=str(row["task"]), answer=None if answer is None else str(answer))


def _math(name: str, row: Mapping[str, Any]) -> Case:
    return Case(id=str(row.get("unique_id", name)), task=str(row["problem"]), answer=str(row["answer"]))


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
    ({"problem", "answer"}, _math),
    ({"nums", "target"}, _countdown),
    ({"Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"}, _gpqa),
)
