"""``sprint-finetune plan``: what a recipe needs of each GPU, and on which cards it fits."""

from pathlib import Path

import typer

_CARDS = {"24 GB (RTX 4090, L4)": 24, "40 GB (A100)": 40, "80 GB (A100, H100)": 80, "141 GB (H200)": 140}  # in GiB


def plan_memory(recipe: Path, *, processes: int) -> None:
    """Print the memory that each of ``processes`` devices needs, and the longest row that each card takes.

    Raises:
        ConfigurationError: the recipe is not valid.
        InvalidCheckpoint: its model has no readable configuration.
    """
    from sprint_finetune.training.memory import GIB, RESERVED, MemoryModel
    from sprint_finetune.training.settings import Settings

    # A recipe leaves to the command what is in its rows, and where they go.
    settings = Settings.load(recipe, defaults={"data": ["train.jsonl"], "output": "runs"})
    memory = MemoryModel(settings, processes=processes)
    need = memory.need()
    devices = "one device" if processes == 1 else f"each of {processes} devices"
    typer.echo(
        f"{settings.model}: {memory.parameters / 1e9:.3g} billion parameters, rows of {memory.row_tokens:,} tokens; "
        f"GiB on {devices}:"
    )
    for name in ("weights", "gradients", "optimizer", "gathered", "activations", "logits"):
        if getattr(need, name):
            typer.echo(f"  {name:12} {getattr(need, name) / GIB:8.1f}")
    typer.echo(f"  {'reserved':12} {RESERVED / GIB:8.1f}\n  {'in all':12} {need.total / GIB:8.1f}\n")
    for card, size in _CARDS.items():
        longest = memory.largest_row(size * GIB)
        verdict = (
            "fits" if need.total <= size * GIB else f"fits with row_tokens = {longest:,}" if longest else "too small"
        )
        room = f", up to row_tokens = {longest:,}" if verdict == "fits" else ""
        typer.echo(f"  {card:22} {verdict}{room}")
