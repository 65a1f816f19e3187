"""Plots of a comparison: accuracy by cost, and cost by the length of the problem."""

# pyright: reportUnknownMemberType=false
# The annotations of matplotlib are partial.

from collections.abc import Sequence
from pathlib import Path

from sprint_agents.errors import MissingExtra

from .summary import THIRDS, Row


def draw(rows: Sequence[Row], path: Path, *, title: str) -> None:
    """Write a PNG or SVG file: accuracy over strict sequential tokens, and strict tokens by thirds of the cases.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("finetune", "matplotlib") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    cost, length = figure.subplots(1, 2)
    for row in (row for row in rows if row.part == "all"):
        reach = [[row.accuracy - row.low], [row.high - row.accuracy]]
        cost.errorbar(row.sequential_tokens_strict, row.accuracy, yerr=reach, marker="o", capsize=3, label=row.method)
    cost.set(xlabel="strict sequential tokens, mean", ylabel="accuracy", ylim=(0, 1.02), title=title)
    cost.legend()
    for method in dict.fromkeys(row.method for row in rows):
        tokens = {row.part: row.sequential_tokens_strict for row in rows if row.method == method}
        parts = [part for part in THIRDS if part in tokens]
        length.plot(parts, [tokens[part] for part in parts], marker="o", label=method)
    length.set(ylabel="strict sequential tokens, mean", title="by length of the sequential twin's run")
    figure.savefig(path)
