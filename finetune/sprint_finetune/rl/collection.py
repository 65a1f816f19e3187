"""Rollouts of an iteration: each problem is solved several times, by the runtime that users run."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sprint_agents import Run, Sampling, Sprint, errors
from sprint_agents.engine import Engine
from sprint_agents.errors import ConfigurationError, EngineUnavailable
from sprint_agents.rollouts import RolloutRecorder
from sprint_finetune.costs import RunShape
from sprint_finetune.grading import MathVerifier
from sprint_finetune.grading.grade import grade_text

from .scoring import Scored
from .settings import RlProblem, RlSettings


async def collect(
    engine: Engine, problems: Mapping[int, RlProblem], settings: RlSettings, *, iteration: int, out: Path
) -> list[list[Scored]]:
    """Solve each problem ``settings.group`` times at temperature 1. Return the rollouts by problem.

    Each is appended to ``out`` when it has finished. Those that are there already, from a process that was killed, are
    not repeated.

    Raises:
        EngineUnavailable: the engine failed; a run that it failed says nothing about the model.
    """
    async with MathVerifier() as verifier:
        collection = _Collection(RolloutRecorder(engine), problems, settings, iteration, out, verifier)
        members = range(settings.group)
        try:
            async with asyncio.TaskGroup() as tasks:
                for member in members:
                    tasks.create_task(collection.solve(member))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
    return [[collection.found[index, member] for member in members] for index in problems]


class _Collection:
    """The rollouts of one iteration, by problem and member."""

    def __init__(
        self,
        recorder: RolloutRecorder,
        problems: Mapping[int, RlProblem],
        settings: RlSettings,
        iteration: int,
        out: Path,
        verifier: MathVerifier,
    ) -> None:
        self._recorder = recorder
        self._problems = problems
        self._settings = settings
        self._iteration = iteration
        self._out = out
        self._verifier = verifier
        self.found = {(one.problem, one.member): one for one in read_scored(out)}

    async def solve(self, member: int) -> None:
        """Solve each problem once that this member has not solved yet."""
        missing = {one.problem: index for index, one in self._problems.items() if (index, member) not in self.found}
        settings = self._settings
        seed = (settings.seed * 1_000_003 + self._iteration) * 1_009 + member
        # SGLang has seeds only in its deterministic mode. Members differ in any case.
        sampling = Sampling(temperature=1.0, seed=None if settings.server else seed)
        places = max(1, settings.concurrency // settings.group)
        async with Sprint(self._recorder, sampling=sampling).map(missing, concurrency=places) as runs:
            async for run in runs:
                scored = await self._scored(run, missing[run.task], member)
                with self._out.open("a", encoding="utf-8") as file:
                    file.write(f"{scored.model_dump_json()}\n")
                self.found[scored.problem, member] = scored

    async def _scored(self, run: Run[Any, Any], problem: int, member: int) -> Scored:
        if run.error is not None and issubclass(getattr(errors, run.error.type, Exception), errors.EngineError):
            raise EngineUnavailable(f"a rollout failed, {run.error.type}: {run.error.message}. Run it again to resume")
        shape = RunShape.of(run)
        return Scored(
            problem=problem,
            member=member,
            right=await _is_right(run, self._problems[problem], self._verifier),
            seconds=self._settings.costs.seconds(shape) if shape else 0.0,
            tokens=run.usage.sequential_tokens_strict,
            width=shape.width if shape else 0,
            rollout=self._recorder.rollout(run) if shape else None,
        )


async def _is_right(run: Run[Any, Any], problem: RlProblem, verifier: MathVerifier) -> bool:
    if run.error is not None:
        return False
    if run.verified is not None:
        return run.verified
    return await grade_text(run.task, reference=problem.answer, text=str(run.answer), verifier=verifier) is True


def read_scored(path: Path) -> Sequence[Scored]:
    """Read the rollouts of a file, which may end within a line; there are none if there is no file.

    Raises:
        ConfigurationError: another line is damaged.
    """
    if not path.exists():
        return []
    *whole, rest = path.read_bytes().split(b"\n")
    if rest:  # cut short by a kill; the next line must not continue it
        path.write_bytes(b"".join(line + b"\n" for line in whole))
    try:
        return [Scored.model_validate(json.loads(line)) for line in whole]
    except ValueError as error:
        raise ConfigurationError(f"{path} is damaged: delete it to repeat its rollouts ({error})") from error
