"""``sprint-finetune rl``: reinforcement learning on the critical path."""

from pathlib import Path

import typer

from sprint_finetune.rl.settings import Method, RlSettings


def run_rl(
    recipe: Path, *, method: Method | None, output: Path | None, server: str | None, iterations: int | None
) -> None:
    """Train by a recipe, with these changes, and print the last iteration and where the model is.

    Raises:
        ConfigurationError: the recipe is not valid, or the run in its output has other settings.
        EngineError: the engine failed.
    """
    given = {"method": method, "output": output, "server": server, "iterations": iterations}
    settings = RlSettings.load(recipe, changes={name: value for name, value in given.items() if value is not None})
    from sprint_finetune.rl.plots import draw
    from sprint_finetune.rl.training import read_log, train

    checkpoint = train(settings)
    if log := read_log(settings.output):
        draw(log, settings.output / "progress.svg")
        typer.echo(" ".join(f"{name}={value}" for name, value in log[-1].items()))
    typer.echo(checkpoint)
