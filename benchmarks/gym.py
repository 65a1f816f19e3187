"""sprint-nano on problems of reasoning-gym (arXiv 2505.24760), in its words and by its scorers.

    python benchmarks/gym.py --problems 200

``countdown`` draws three or four numbers up to 50 and targets from 10 to 100, as sprint-nano knows them. ``products``
has two to four digits, and ``basic_arithmetic`` four to six terms of one digit without negated brackets. Of these, the
first ``--problems`` that are within sprint-nano's ranges and held out from training are solved, ``--at-once`` at a
time, greedily. The last column says how many were drawn for them: of 10,000 expressions, fewer than one. An answer is
right if it has the full score.
"""

import argparse
import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reasoning_gym

from sprint_agents import Sampling, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.errors import UnsupportedTask
from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path
from sprint_agents.nano.tasks import understand
from sprint_finetune.evaluation.intervals import wilson
from sprint_finetune.nano.splits import split_of

GENERATORS: dict[str, dict[str, Any]] = {
    "countdown": {"min_numbers": 3, "max_numbers": 4, "max_value": 50, "min_target": 10, "max_target": 100},
    "products": {"min_digits": 2, "max_digits": 4},
    "basic_arithmetic": {"min_terms": 4, "max_terms": 6, "max_digits": 1, "allow_negation": False},
}
DRAWN = 10_000_000


def known(dataset: Any, manifest: Manifest) -> Iterator[tuple[int, Any]]:
    """Yield the entries that sprint-nano takes and was not trained on, each with its number."""
    for number in range(DRAWN):
        try:
            entry = dataset[number]
            _, task = understand(entry["question"], manifest)
        except (UnsupportedTask, ZeroDivisionError):  # the generator divides by zero at times
            continue
        if split_of(task) == "held_out":
            yield number, entry


async def solve(engine: LocalEngine, name: str, options: argparse.Namespace) -> str:
    """Solve the problems of a generator; return its row of the table."""
    dataset = reasoning_gym.create_dataset(name, size=DRAWN, seed=options.seed, **GENERATORS[name])
    assert engine.manifest is not None
    drawn = [*itertools.islice(known(dataset, engine.manifest), options.problems)]
    entries = {entry["question"]: entry for _, entry in drawn}
    right = 0
    async with Sprint(engine, sampling=Sampling(temperature=0)).map(entries, concurrency=options.at_once) as runs:
        async for run in runs:
            right += run.error is None and dataset.score_answer(run.answer, entries[run.task]) >= 1
    low, high = (100 * bound for bound in wilson(right, len(entries)))
    share = f"{100 * right / len(entries):.1f} ({low:.1f} to {high:.1f})"
    return f"| {name} | {len(entries)} | {share} | {drawn[-1][0] + 1:,} |"


async def main(options: argparse.Namespace) -> None:
    """Print the table."""
    print("| generator | problems | right, % (95 %) | drawn |\n|---|---:|---:|---:|")
    async with LocalEngine(options.model, threads=1) as engine:
        for name in options.generators:
            print(await solve(engine, name, options), flush=True)


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_path())
    parser.add_argument("--generators", nargs="+", choices=GENERATORS, default=[*GENERATORS])
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(parse()))
