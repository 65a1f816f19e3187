"""Turn a training run into a checkpoint to ship: weights, tokenizer and ``sprint.json``.

    python -m sprint_finetune.nano.export runs/nano sprint_agents/nano/sprint-nano

``--mean-with`` names a second checkpoint, such as the one that the run started from. The exported weights are then the
mean of both, because the ends of two learning-rate decays err in different directions
(`Wortsman et al., 2022 <https://arxiv.org/abs/2203.05482>`_).

``--dtype float16`` or ``bfloat16`` halves the size of the file. ``config.json`` still asks for float32, so engines
convert the weights when they load them and compute as before.
"""

import argparse
import shutil
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from sprint_agents.errors import ConfigurationError
from sprint_agents.manifest import FILE_NAME, Manifest
from sprint_agents.nano.ranges import ArithmeticRange, CountdownRange, MultiplicationRange, TaskRanges
from sprint_agents.settles import Settles

from . import arithmetic, multiplication
from .countdown import LARGEST_NUMBERS, TARGETS

Dtype = Literal["float32", "float16", "bfloat16"]
"""The type of the stored weights, by its name in torch."""

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
"""The problems that the traces cover."""

NANO = Manifest(
    model="sprint-nano",
    temperature=0.0,
    stages=4,
    plan_tokens=512,
    execution_tokens=320,
    settles={"countdown": Settles(holds="answer=", chance=0.4, in_order=True)},
    tasks=TASKS.model_dump(mode="json"),
)
"""The manifest of sprint-nano: the problems it was trained on, and how to run it."""


def export_checkpoint(
    run: Path, target: Path, *, name: str = NANO.model, mean_with: Path | None = None, dtype: Dtype = "float32"
) -> None:
    """Write the newest checkpoint of ``run`` to ``target``, with a manifest that has the model's ``name``.

    If ``mean_with`` is a checkpoint, the weights are the mean of both. It may be ``target``. Weights are averaged in
    float32 and stored as ``dtype``.

    Raises:
        ConfigurationError: the weights of ``mean_with`` have other names or shapes.
    """
    weights = load_file(run / "checkpoint" / WEIGHTS)
    if mean_with is not None:
        others = load_file(mean_with / WEIGHTS)
        if {key: one.shape for key, one in weights.items()} != {key: other.shape for key, other in others.items()}:
            raise ConfigurationError(
                f"{mean_with} and {run} have weights of other shapes: use the checkpoint that the run started from"
            )
        weights = {key: (one.float() + others[key].float()) / 2 for key, one in weights.items()}
    stored = {key: one.to(getattr(torch, dtype)) for key, one in weights.items()}
    target.mkdir(parents=True, exist_ok=True)
    save_file(stored, target / WEIGHTS, metadata={"format": "pt"})
    for file in BESIDE:
        shutil.copy(run / "checkpoint" / file, target / file)
    manifest = NANO.model_copy(update={"model": name})
    (target / FILE_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--name", default=NANO.model, help="the model's name in sprint.json")
    parser.add_argument("--mean-with", type=Path, help="a checkpoint to average the weights with")
    parser.add_argument("--dtype", choices=get_args(Dtype), default="float32", help="the type of the stored weights")
    arguments = parser.parse_args()
    export_checkpoint(
        arguments.run,
        arguments.target,
        name=arguments.name,
        mean_with=arguments.mean_with,
        dtype=arguments.dtype,
    )


if __name__ == "__main__":
    main()
