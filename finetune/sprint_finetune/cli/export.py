"""``sprint-finetune export``: rollouts of ``sprint batch`` as training data of other libraries."""

from pathlib import Path
from typing import Literal

import typer

from sprint_agents.errors import ConfigurationError
from sprint_finetune.rollouts import read_rollouts, to_dataset, write_episodes

Format = Literal["verifiers", "datasets"]
"""What reads the data: verifiers and prime-rl, or ``datasets.load_dataset``."""


def export_rollouts(path: Path, out: Path, *, to: Format, verified: bool) -> None:
    """Write the rollouts in ``path`` into the folder ``out``; ``verified`` leaves out all but the right ones.

    Raises:
        ConfigurationError: the file is not one of rollouts, none is left, or the folder cannot be written.
    """
    rollouts = [rollout for rollout in read_rollouts(path) if rollout.verified or not verified]
    if not rollouts:
        raise ConfigurationError(f"{path} has no {'verified ' if verified else ''}rollouts: nothing was written")
    try:
        if to == "verifiers":
            write_episodes(rollouts, out)
        else:
            out.mkdir(parents=True, exist_ok=True)
            to_dataset(rollouts).to_parquet(str(out / "train.parquet"))  # pyright: ignore[reportUnknownMemberType]
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror or error}") from error
    branches = sum(len(rollout.branches) for rollout in rollouts)
    tokens = sum(sum(branch.mask) for rollout in rollouts for branch in rollout.branches)
    typer.echo(f"{out}: {len(rollouts)} runs, {branches} branches, {tokens:,} sampled tokens")
