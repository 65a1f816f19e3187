"""A picture of a run: rewards, right answers, seconds, tokens and width, by iteration."""

# pyright: reportUnknownMemberType=false
# The annotations of matplotlib are partial.

from collections.abc import Mapping, Sequence
from pathlib import Path

from sprint_agents.errors import MissingExtra

_SERIES = (("reward", "right"), ("seconds",), ("tokens",), ("width",))


def draw(log: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write a PNG or SVG file with the lines of ``log.jsonl``.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("finetune", "matplotlib") from error
    figure = Figure(figsize=(12, 3), layout="constrained")
    for axes, names in zip(figure.subplots(1, len(_SERIES)), _SERIES, strict=True):
        for name in names:
            axes.plot([line["iteration"] for line in log], [line[name] for line in log], label=name)
        axes.set(xlabel="iteration", ylim=(0, None))
        axes.legend()
    figure.savefig(path)
