"""``sprint-finetune speedup``: whether planning would be faster on an engine."""

import asyncio
import itertools
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from sprint_agents import Run
from sprint_agents.cli.engines import EngineName, open_engine
from sprint_agents.cli.view import read_runs
from sprint_agents.errors import ConfigurationError
from sprint_finetune.costs import RunShape
from sprint_finetune.evaluation.speedup import Replay, Replayed

_LINE = "{at_once:7} {groups:6} {planned:10.3f} {chains:10.3f} {speed_up:8.2f}  ({low:.2f} to {high:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedupOptions:
    """The options of ``speedup``."""

    runs: Path
    twin: Path | None
    engine: EngineName
    model: str | None
    url: str | None
    at_once: Sequence[int]
    limit: int | None
    out: Path | None


def measure_speedup(options: SpeedupOptions) -> None:
    """Replay the runs, print a table, and write its rows to ``out``.

    Raises:
        ConfigurationError: a file has no runs or cannot be written, or the engine cannot be opened or cannot replay.
    """
    runs = [*itertools.islice(_runs(options.runs), options.limit)]
    shapes = {run.task: shape for run in runs if run.error is None and (shape := RunShape.of(run))}
    if not shapes:
        raise ConfigurationError(
            f"{options.runs} has no finished run in which a model wrote: record some with `sprint batch`"
        )
    chains = {run.task: run.usage.total_tokens for run in _runs(options.twin)} if options.twin else None
    if chains is not None and (missing := [task for task in shapes if task not in chains]):
        raise ConfigurationError(f"{options.twin} has no run of {missing[0]!r}: run the twin on the same tasks")
    typer.echo("at once groups planned, s  chains, s speed-up  (quartiles)")
    rows = asyncio.run(_measure(options, shapes, chains))
    if options.out is not None:
        try:
            options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{options.out} cannot be written: {error.strerror or error}") from error


async def _measure(
    options: SpeedupOptions, shapes: Mapping[str, RunShape], chains: Mapping[str, int] | None
) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    async with open_engine(options.engine, model=options.model, url=options.url) as engine:
        replay = await Replay.on(engine)
        await replay.run([next(iter(shapes.values()))])  # the first request loads what all others find
        for count in options.at_once:
            replayed = [
                await replay.run(
                    [shapes[task] for task in tasks],
                    chain_tokens=None if chains is None else [chains[task] for task in tasks],
                )
                for tasks in _groups([*shapes], count)
            ]
            rows.append(row := _row(count, replayed))
            typer.echo(_LINE.format(**row))
    return rows


def _groups(tasks: Sequence[str], count: int) -> list[list[str]]:
    """Divide tasks into groups of ``count``; tasks are repeated to fill the last group."""
    return [[tasks[(start + index) % len(tasks)] for index in range(count)] for start in range(0, len(tasks), count)]


def _row(count: int, replayed: Sequence[Replayed]) -> dict[str, float]:
    """Return the medians of the replays of groups of ``count``, and the quartiles of their speed-ups."""
    speed_ups = [one.speed_up for one in replayed]
    low, middle, high = statistics.quantiles(speed_ups, n=4, method="inclusive") if len(replayed) > 1 else speed_ups * 3
    return {
        "at_once": count,
        "groups": len(replayed),
        "planned": statistics.median(one.planned for one in replayed),
        "chains": statistics.median(one.chains for one in replayed),
        "speed_up": middle,
        "low": low,
        "high": high,
    }


def _runs(path: Path) -> Iterator[Run[Any, Any]]:
    return (Run[Any, Any].model_validate_json(line) for line in read_runs(path))
