"""Turn a training run into a checkpoint to ship: weights, tokenizer and ``sprint.json``.

    python -m sprint_finetune.nano.export runs/nano sprint_agents/nano/sprint-nano

``--mean-with`` names a checkpoint, such as the one that the run began from: what is written is the mean of the two. Two
ends of a decayed learning rate err in different places (`Wortsman et al., 2022 <https://arxiv.org/abs/2203.05482>`_).
"""

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from sprint_agents.errors import ConfigurationError
from sprint_agents.manifest import FILE_NAME, Manifest
from sprint_agents.nano.ranges import ArithmeticRange, CountdownRange, MultiplicationRange, TaskRanges

from . import arithmetic, multiplication
from .problems import LARGEST_NUMBERS, TARGETS

WEIGHTS = "model.safetensors"
BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")

TASKS = TaskRanges(
    countdown=CountdownRange(
        counts=(3, 4), numbers=(1, max(LARGEST_NUMBERS)), targets=(TARGETS.start, TARGETS.stop - 1)
    ),
    arithmetic=ArithmeticRange(
        groups=arithmetic.GROUPS,
        outer=arithmetic.OUTER,
        operations=arithmetic.OPERATIONS,
        levels=arithmetic.LEVELS,
        numbers=arithmetic.NUMBERS,
        values=arithmetic.VALUES,
    ),
    multiplication=MultiplicationRange(
        smaller=multiplication.SMALLER, larger=multiplication.LARGER, products=multiplication.PRODUCTS
    ),
)
"""All that there are traces of."""

NANO = Manifest(
    model="sprint-nano",
    temperature=0.0,
    stages=4,
    plan_tokens=512,
    execution_tokens=320,
    tasks=TASKS.model_dump(mode="json"),
)
"""What sprint-nano was trained to do, and how it is run."""


def export(run: Path, target: Path, *, name: str = NANO.model, mean_with: Path | None = None) -> None:
    """Write the newest checkpoint of ``run`` to ``target``, and its manifest beside it, under ``name``.

    Its weights are the mean with those of the checkpoint ``mean_with``, if there is one; that may be ``target``.

    Raises:
        ConfigurationError: the weights of ``mean_with`` have other names or shapes.
    """
    weights = load_file(run / "checkpoint" / WEIGHTS)
    if mean_with is not None:
        others = load_file(mean_with / WEIGHTS)
        if {key: one.shape for key, one in weights.items()} != {key: other.shape for key, other in others.items()}:
            raise ConfigurationError(f"{mean_with} is a model of another shape than {run}: take one that it began from")
        weights = {key: (one + others[key]) / 2 for key, one in weights.items()}
    target.mkdir(parents=True, exist_ok=True)
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    for file in BESIDE:
        shutil.copy(run / "checkpoint" / file, target / file)
    manifest = NANO.model_copy(update={"model": name})
    (target / FILE_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--name", default=NANO.model)
    parser.add_argument("--mean-with", type=Path, help="a checkpoint whose weights go into the mean")
    arguments = parser.parse_args()
    export(arguments.run, arguments.target, name=arguments.name, mean_with=arguments.mean_with)


if __name__ == "__main__":
    main()
