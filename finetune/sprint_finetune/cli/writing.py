"""``sprint-finetune traces``."""

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

from sprint_agents.errors import ConfigurationError
from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.problems import Family, Split, problems, solved
from sprint_finetune.nano.traces import Solved, complete


def write(family: Family, *, count: int, seed: int, split: Split, slips: float, unsolvable: float, out: Path) -> None:
    """Write traces of ``count`` different problems to ``out``, a JSON object a line; a kill leaves the file as it was.

    Raises:
        ConfigurationError: the file cannot be written, or the family does not have what was asked for.
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


def _drawn(family: Family, *, seed: int, split: Split, slips: float, unsolvable: float) -> Iterator[Solved]:
    if family == "countdown":
        if slips:
            raise ConfigurationError("no search goes wrong: --slips is for arithmetic and multiplication")
        return (solved(*problem) for problem in problems(seed=seed, split=split, unsolvable=unsolvable))
    if unsolvable:
        raise ConfigurationError(f"{family} has a value always: --unsolvable is for countdown")
    worked_out = arithmetic.problems if family == "arithmetic" else multiplication.problems
    return worked_out(seed=seed, split=split, slips=slips)


def _different(drawn: Iterator[Solved]) -> Iterator[Solved]:
    seen: set[str] = set()
    for work in drawn:
        if work.task.prompt not in seen:
            seen.add(work.task.prompt)
            yield work


def _line(work: Solved) -> str:
    answer = work.answer.removeprefix("\\boxed{").removesuffix("}").strip() if work.solved else work.answer
    return json.dumps({"problem": work.task.prompt, "trace": complete(work), "answer": answer})
