"""``Gym`` makes tasks of reasoning-gym and scores answers to them."""

from collections.abc import Iterable
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from sprint_agents.errors import ConfigurationError, MissingExtra
from sprint_agents.subprocesses import Subprocesses

_MAKING = 120.0
"""Seconds in which a generator must make its tasks."""


class GymTask(BaseModel):
    """A task, number ``index`` of the ``count`` that ``generator`` makes with ``seed``.

    ``id`` is unique among tasks of the same seed. ``task`` is the text for a model. ``answer`` is a right answer, of
    which there may be others; None if the generator gives none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    task: str
    answer: str | None
    generator: str
    seed: int
    count: int
    index: int


class Gym:
    """Makes tasks and scores answers, in up to ``processes`` processes; use it as an async context manager.

    reasoning-gym is never loaded into this process. Some of its scorers raise on a wrong answer, some accept anything,
    and some evaluate the answer as a Python expression. Here an answer that makes a scorer raise scores 0. If the
    scorer of a task accepts nonsense, only the text of the task's answer is right. Scorers run without access to
    files that they would write, to programs and to the network. That is a second line of defence and no sandbox.

    >>> async def solve():
    ...     async with Gym() as gym:
    ...         for task in await gym.tasks("leg_counting", count=2):
    ...             print(task.id, await gym.score(task, "17"))
    """

    def __init__(self, *, processes: int = 2, seconds: float = 10.0) -> None:
        """``seconds`` is the time that a scorer has for an answer.

        Raises:
            MissingExtra: reasoning-gym is not installed.
        """
        if find_spec("reasoning_gym") is None:
            raise MissingExtra("gym", "reasoning-gym")
        self._seconds = seconds
        self._processes = Subprocesses("sprint_agents.gym.program", processes=processes)

    async def tasks(self, generators: str | Iterable[str], *, count: int = 20, seed: int = 0) -> list[GymTask]:
        """Make ``count`` tasks with each of ``generators``, which are names such as ``"leg_counting"``.

        The same arguments always make the same tasks.

        Raises:
            ConfigurationError: there is no such generator, or it cannot make the tasks.
        """
        names = [generators] if isinstance(generators, str) else list(generators)
        known: list[str] = await self._ask({"ask": "generators"}, seconds=_MAKING) or []
        if unknown := [name for name in names if name not in known]:
            raise ConfigurationError(f"reasoning-gym has no generator {unknown[0]!r}: use some of {', '.join(known)}")
        tasks: list[GymTask] = []
        for name in names:
            place: dict[str, Any] = {"generator": name, "seed": seed, "count": count}
            made = await self._ask({"ask": "tasks", **place}, seconds=_MAKING)
            if made is None:
                raise ConfigurationError(
                    f"reasoning-gym's {name} made no tasks with its default settings: leave it out"
                )
            tasks += [
                GymTask(id=f"{name}-{index + 1}", task=task, answer=answer, index=index, **place)
                for index, (task, answer) in enumerate(made)
            ]
        return tasks

    async def score(self, task: GymTask, answer: str) -> float | None:
        """Return the score of an answer, from 0 to 1; None if the scorer took too long.

        A scorer may give part of the points to an answer that is only well-formed.
        """
        question = {
            "ask": "score",
            "answer": answer,
            **task.model_dump(include={"generator", "seed", "count", "index"}),
        }
        return await self._ask(question, seconds=self._seconds)

    async def is_right(self, task: GymTask, answer: str) -> bool | None:
        """Say whether an answer has the full score; None if the scorer took too long."""
        score = await self.score(task, answer)
        return None if score is None else score >= 1

    async def _ask(self, question: dict[str, Any], *, seconds: float) -> Any:
        return await self._processes.ask(question, seconds=seconds)

    async def __aenter__(self) -> Self:
        await self._processes.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._processes.__aexit__(kind, error, trace)
