"""Turn a training run into a checkpoint to ship: weights, tokenizer and ``sprint.json``.

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

NANO = Manifest(model="sprint-nano", temperature=0.0, stages=4, plan_tokens=512, execution_tokens=320, tasks=TASKS)
"""What sprint-nano was trained to do, and how it is run."""


def export(run: Path, target: Path, *, name: str = NANO.model) -> None:
    """Copy the newest checkpoint of ``run`` to ``target`` and write its manifest beside it, under ``name``."""
    target.mkdir(parents=True, exist_ok=True)
    for file in SHIPPED:
        shutil.copy(run / "checkpoint" / file, target / file)
    manifest = NANO.model_copy(update={"model": name})
    (target / FILE_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--name", default=NANO.model)
    arguments = parser.parse_args()
    export(arguments.run, arguments.target, name=arguments.name)


if __name__ == "__main__":
    main()
