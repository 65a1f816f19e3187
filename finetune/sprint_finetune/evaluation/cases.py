"""The problems of an evaluation."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from sprint_agents.gym import GymTask
from sprint_agents.nano.tasks import Task, recognise
from sprint_finetune.nano import arithmetic, countdown, multiplication
from sprint_finetune.nano.splits import Family


class Case(BaseModel):
    """One problem: the ``task`` as a model gets it, and the reference ``answer`` if there is one.

    ``row`` is the row of the file that the case was read from, for checkers that need more than the answer. A problem
    of reasoning-gym is its ``gym`` task, whose answers only a ``Gym`` can check.

    >>> Case(id="1", task="Use 50, 25, 7, 3 to make 79.").check("50+25+(7-3)")
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    task: str
    answer: str | None = None
    row: Mapping[str, JsonValue] = Field(default_factory=dict[str, JsonValue], repr=False)
    gym: GymTask | None = None

    def check(self, answer: str) -> bool | None:
        """Return whether ``answer`` is correct, or None if that cannot be decided by a program or by comparing text."""
        if (task := recognise(self.task)) is not None:
            return task.check(answer)
        if self.answer is not None and answer.strip() == self.answer.strip():
            return True
        return None

    @property
    def digest(self) -> str:
        """A short name for the content of the case."""
        return digest_of(self.model_dump(mode="json", exclude={"id"}))


def digest_of(value: JsonValue) -> str:
    """Return a short name for a JSON value: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


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
