"""Evaluation by generation: each saved checkpoint solves problems as users would run it, on the embedded engine.

The loss on held-out samples says how likely the trajectories are. This says whether the model writes plans, and whether
its answers are right. The runs use the settings of the manifest, greedily, so that they do not depend on the step.
"""

# pyright: reportUnknownMemberType=false
# The annotations of transformers are partial.

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sprint_agents import Run, Sampling, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.errors import ConfigurationError
from sprint_finetune.grading import MathVerifier
from sprint_finetune.grading.grade import grade_text

from .corpus import TrainingSample


class SolvingCallback(TrainerCallback):
    """Solves ``problems`` with each saved checkpoint, and passes the shares to ``log``.

    ``export(source, target)`` writes a checkpoint of the trainer in the form that engines open. The logged numbers are
    ``solved`` (share of right answers), ``parallel`` (share of runs in which at least two subtasks ran side by side),
    ``failed`` (share of runs that ended in an error) and ``sequential_tokens`` (mean). ``is_logged(step)`` says whether
    they are in the log already: a run that was killed while it solved does so again when it resumes.
    """

    def __init__(
        self,
        problems: Sequence[TrainingSample],
        *,
        export: Callable[[Path, Path], object],
        log: Callable[[dict[str, float]], object],
        is_logged: Callable[[int], bool],
    ) -> None:
        if unanswered := [problem.id for problem in problems if problem.answer is None]:
            raise ConfigurationError(
                f"{len(unanswered)} of the problems to solve have no answer, such as {unanswered[0]!r}: "
                "give each line an `answer`, as in the curation's eval.jsonl"
            )
        self._problems = problems
        self._export = export
        self._log = log
        self._is_logged = is_logged

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Solve the problems with the checkpoint that the run resumes from, unless that is done."""
        if state.global_step and state.is_world_process_zero and not self._is_logged(state.global_step):
            self.on_save(args, state, control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Solve the problems with the checkpoint that was just written."""
        if not state.is_world_process_zero:
            return
        checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        exported = checkpoint / "exported"
        shutil.rmtree(exported, ignore_errors=True)
        with torch.random.fork_rng():  # a resumed run must draw the same numbers
            self._export(checkpoint, exported)
            shares = asyncio.run(_solve(exported, self._problems))
        shutil.rmtree(exported)
        self._log(shares)


async def _solve(checkpoint: Path, problems: Sequence[TrainingSample]) -> dict[str, float]:
    asked = {problem.problem: problem.answer for problem in problems}
    right = parallel = failed = tokens = 0
    async with LocalEngine(checkpoint) as engine, MathVerifier() as verifier:
        sprint = Sprint(engine, sampling=Sampling(temperature=0))
        async with sprint.map(asked) as runs:
            async for run in runs:
                failed += run.error is not None
                parallel += any(len(stage.executions) > 1 for stage in run.stages)
                tokens += run.usage.sequential_tokens
                right += await _is_right(run, asked[run.task], verifier)
    count = len(asked)
    return {
        "solved": right / count,
        "parallel": parallel / count,
        "failed": failed / count,
        "sequential_tokens": tokens / count,
    }


async def _is_right(run: Run[str], reference: str | None, verifier: MathVerifier) -> bool:
    if run.error is not None:
        return False
    return await grade_text(run.task, reference=reference, text=run.answer, verifier=verifier) is True
