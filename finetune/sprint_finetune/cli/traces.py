"""``sprint-finetune traces``."""

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

from sprint_agents.errors import ConfigurationError
from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.countdown import problems, solution_of
from sprint_finetune.nano.splits import Family, Split
from sprint_finetune.nano.traces import Solution, complete


def write_traces(
    family: Family, *, count: int, seed: int, split: Split, slips: float, unsolvable: float, out: Path
) -> None:
    """Write traces of ``count`` different problems to ``out``, one JSON object per line.

    The file is replaced as a whole, so it is unchanged if the process is killed.

    Raises:
        ConfigurationError: the file cannot be written, or an option does not apply to the family.
    """
    drawn = _drawn(family, seed=seed, split=split, slips=slips, unsolvable=unsolvable)
    partial = out.with_name(f"{out.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for work in itertools.islice(_different(drawn), count):
                file.write(f"{_line(work)}\n")
        os.replace(partial, out)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror or error}") from error


def _drawn(family: Family, *, seed: int, split: Split, slips: float, unsolvable: float) -> Iterator[Solution]:
    if family == "countdown":
        if slips:
            raise ConfigurationError("--slips is for arithmetic and multiplication: a countdown search has no slips")
        return (solution_of(*problem) for problem in problems(seed=seed, split=split, unsolvable=unsolvable))
    if unsolvable:
        raise ConfigurationError(f"--unsolvable is for countdown: {family} problems always have a value")
    worked_out = arithmetic.problems if family == "arithmetic" else multiplication.problems
    return worked_out(seed=seed, split=split, slips=slips)


def _different(drawn: Iterator[Solution]) -> Iterator[Solution]:
    seen: set[str] = set()
    for work in drawn:
        if work.task.prompt not in seen:
            seen.add(work.task.prompt)
            yield work


def _line(work: Solution) -> str:
    answer = work.answer.removeprefix("\\boxed{").removesuffix("}").strip() if work.solved else work.answer
    return json.dumps({"problem": work.task.prompt, "trace": complete(work), "answer": answer})
