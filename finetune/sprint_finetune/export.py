"""Turn a training run into the checkpoint that ships: weights, tokenizer, ``sprint.json`` and the model card.

python -m sprint_finetune.export runs/nano sprint_agents/models/sprint-nano
"""

import argparse
import shutil
from pathlib import Path

from sprint_agents.manifest import (
    FILE_NAME,
    ArithmeticRange,
    CountdownRange,
    Manifest,
    MultiplicationRange,
    TaskRanges,
)

from . import arithmetic, multiplication
from .problems import LARGEST_NUMBERS, TARGETS

SHIPPED = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")

TASKS: TaskRanges = {
    "countdown": CountdownRange(
        counts=(3, 4), numbers=(1, max(LARGEST_NUMBERS)), targets=(TARGETS.start, TARGETS.stop - 1)
    ),
    "arithmetic": ArithmeticRange(
        groups=arithmetic.GROUPS,
        outer=arithmetic.OUTER,
        operations=arithmetic.OPERATIONS,
        levels=arithmetic.LEVELS,
        numbers=arithmetic.NUMBERS,
        values=arithmetic.VALUES,
    ),
    "multiplication": MultiplicationRange(
        smaller=multiplication.SMALLER, larger=multiplication.LARGER, products=multiplication.PRODUCTS
    ),
}
"""All that there are traces of."""

NANO = Manifest(
    model="sprint-nano",
    temperature=0.0,
    stages=4,
    plan_tokens=512,
    execution_tokens=320,
    tasks={"countdown": TASKS["countdown"]},
)
"""What sprint-nano was trained to do, and how it is run."""


def export(run: Path, target: Path) -> None:
    """Copy the newest checkpoint of ``run`` to ``target`` and write its manifest beside it."""
    target.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED:
        shutil.copy(run / "checkpoint" / name, target / name)
    (target / FILE_NAME).write_text(NANO.model_dump_json(indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    export(arguments.run, arguments.target)


if __name__ == "__main__":
    main()
