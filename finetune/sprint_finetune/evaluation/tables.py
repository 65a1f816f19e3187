"""The rows of a summary as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence

from .summary import Row


def markdown(rows: Sequence[Row], *, twin: str) -> str:
    """Write two tables: what each method does, and what differs from its ``twin`` on the same runs.

    Wall times are in milliseconds; accuracies, differences and shares in percent.
    """
    compared = [row for row in rows if row.method != twin]
    return "\n".join([*_methods(rows), *(["", *_paired(compared, twin=twin)] if compared else [])]) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """Write all fields of the rows, with a header line; a missing value is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*Row.model_fields], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in rows)
    return text.getvalue()


def as_json(rows: Sequence[Row], **about: object) -> str:
    """Write all fields of the rows as an object with ``rows`` and what is said ``about`` them."""
    return json.dumps({**about, "rows": [row.model_dump() for row in rows]}, indent=2, default=str) + "\n"


def speed_up_text(row: Row) -> str:
    """Write the speed-up with its interval; a hyphen if no pair of the row was timed."""
    return _ratio(row.speed_up, row.speed_up_low, row.speed_up_high)


def _methods(rows: Sequence[Row]) -> list[str]:
    return [
        "| part | method | runs | failed | undecided | accuracy (95 %) | sequential tokens | strict | total "
        "| stages | width | parallel | collapse | spurious | wall ms |",
        "|---|---" + "|---:" * 13 + "|",
        *(
            f"| {row.part} | {row.method} | {row.runs} | {row.failed} | {row.unknown} "
            f"| {_percent(row.accuracy, row.low, row.high)} "
            f"| {row.sequential_tokens:.0f} | {row.sequential_tokens_strict:.0f} | {row.total_tokens:.0f} "
            f"| {row.stages:.1f} | {row.width:.1f} | {100 * row.parallel_share:.0f} "
            f"| {100 * row.serial_collapse:.0f} | {100 * row.spurious_parallelism:.0f} "
            f"| {'-' if row.seconds is None else f'{1000 * row.seconds:.0f}'} |"
            for row in rows
        ),
    ]


def _paired(rows: Sequence[Row], *, twin: str) -> list[str]:
    return [
        f"| part | against {twin} | accuracy, points (95 %) | p | strict tokens, ratio (95 %) | speed-up (95 %) |",
        "|---|---" + "|---:" * 4 + "|",
        *(
            f"| {row.part} | {row.method} "
            f"| {_percent(row.difference, row.difference_low, row.difference_high, sign='+')} | {row.p_value:.2g} "
            f"| {_ratio(row.strict_ratio, row.strict_ratio_low, row.strict_ratio_high)} "
            f"| {speed_up_text(row)} |"
            for row in rows
        ),
    ]


def _percent(value: float, low: float, high: float, *, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"


def _ratio(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"
