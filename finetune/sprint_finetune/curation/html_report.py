"""HTML pages of a curation: the report, and the graph of one trace. Each is a single file without scripts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from .lines import lines_of
from .records import Packed, Shape, Step, Trace
from .reformatting import text_of_step
from .report import Bin, Report

_COLUMN, _ROW, _WIDTH, _HEIGHT, _MARGIN = 210, 44, 160, 30, 24
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733; }
table { border-collapse: collapse; } td, th { padding: .25rem .8rem; text-align: left; vertical-align: top; }
tr:nth-child(even) td { background: #f3f6f9; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; background: #f3f6f9; padding: .6rem; margin: .3rem 0; }
details { margin: .6rem 0; border: 1px solid #d5dde5; border-radius: 6px; padding: .5rem .8rem; }
summary { cursor: pointer; } svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; }
.delegated { fill: #d9ecff; stroke: #2b72b8; } .plan { fill: #fff; stroke: #8a97a5; stroke-dasharray: 4 3; }
.edge { fill: none; stroke: #6b7885; } .stage { fill: #6b7885; } .bar { fill: #2b72b8; }
"""


@dataclass(frozen=True, slots=True)
class PackedTrace:
    """A packed trace to draw."""

    trace: Trace
    packed: Packed
    shape: Shape


def report_page(report: Report, shown: Sequence[PackedTrace]) -> str:
    """Write the page of a report, with the graphs of some samples."""
    splits = f"{report.train:,} to train, {report.eval:,} to evaluate"
    share = (
        "" if report.sequential_share is None else f"; sequential tokens {report.sequential_share:.0%} of the chain's"
    )
    parts = [
        "<h1>Curation</h1>",
        f"<p>{report.traces:,} traces, {report.samples:,} samples ({splits}); "
        f"{report.lines:,} lines kept; {report.violations:,} dependency violations in "
        f"{report.samples_with_violations:,} samples{share}.</p>",
        "<h2>Rejected</h2>",
        _table(
            ("stage", "reason", "traces", "for example"),
            [(count.stage, count.reason, f"{count.count:,}", count.example) for count in report.rejected],
        ),
        "<h2>Steps per stage, all packed traces</h2>",
        _bars(report.ratios),
        f"<h2>The first {len(shown)} samples</h2>" if shown else "",
        *(_section(one) for one in shown),
    ]
    return _page("Curation", parts)


def sample_page(shown: PackedTrace) -> str:
    """Write the page of one packed trace: its graph and its steps."""
    return _page(shown.trace.id, [f"<h1>{escape(shown.trace.id)}</h1>", *_body(shown)])


def dag_svg(packed: Packed) -> str:
    """Draw the graph of a packed trace, one column per stage. Boxes of steps without execution are dashed."""
    places = {
        number: (_MARGIN + column * _COLUMN, 2 * _MARGIN + row * _ROW)
        for column, stage in enumerate(packed.stages)
        for row, number in enumerate(stage)
    }
    width = _MARGIN + _COLUMN * len(packed.stages)
    height = 2 * _MARGIN + _ROW * max((len(stage) for stage in packed.stages), default=0)
    parts = [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">']
    parts += [
        f'<text class="stage" x="{_MARGIN + column * _COLUMN}" y="{_MARGIN}">stage {column + 1}</text>'
        for column in range(len(packed.stages))
    ]
    for child, parents in enumerate(packed.parents, 1):
        parts += [_edge(places[parent], places[child]) for parent in parents]
    parts += [_box(packed.steps[number - 1], place) for number, place in places.items()]
    return "".join([*parts, "</svg>"])


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x1, y1), (x2, y2) = start, end
    if x1 == x2:  # within a stage, the edge bends to the left of the column
        y1, y2 = y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
        return f'<path class="edge" d="M{x1} {y1} C{x1 - 20} {y1} {x2 - 20} {y2} {x2} {y2}"/>'
    x1, y1, y2 = x1 + _WIDTH, y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
    middle = (x1 + x2) // 2
    return f'<path class="edge" d="M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}"/>'


def _box(step: Step, place: tuple[int, int]) -> str:
    x, y = place
    name = f"{step.number} {step.description}"
    short = escape(name if len(name) <= 24 else f"{name[:23]}\u2026")
    kind = "delegated" if step.execution else "plan"
    return (
        f"<g><title>{escape(name)}</title>"
        f'<rect class="{kind}" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5"/>'
        f'<text x="{x + 8}" y="{y + 20}">{short}</text></g>'
    )


def _section(shown: PackedTrace) -> str:
    shape = shown.shape
    head = f"{escape(shown.trace.id)}: {shape.steps} steps, {shape.stages} stages, ratio {shape.ratio:.2f}"
    return f"<details><summary>{head}</summary>{''.join(_body(shown))}</details>"


def _body(shown: PackedTrace) -> Iterator[str]:
    yield f"<p>{escape(shown.trace.problem)}</p>"
    yield dag_svg(shown.packed)
    for violation in shown.shape.violations:
        yield (
            f"<p>Step {violation.step} uses {escape(violation.value)} in its {violation.part}, which step "
            f"{violation.source} of the same stage makes.</p>"
        )
    lines = lines_of(shown.trace.trace).chain
    rows: list[tuple[str, ...]] = []
    for step in shown.packed.steps:
        text = text_of_step(step, lines)
        parents = ", ".join(map(str, shown.packed.parents[step.number - 1])) or "\u2013"
        rows.append((str(step.number), parents, "\n".join([*text.plan, *text.prompt]), "\n".join(text.execution)))
    yield _table(("step", "builds on", "plan and prompt", "execution"), rows, preformatted=2)


def _bars(bins: Iterable[Bin]) -> str:
    bins = list(bins)
    most = max((one.count for one in bins), default=1) or 1
    parts = [f'<svg width="520" height="{22 * len(bins) + 4}" role="img">']
    for row, one in enumerate(bins):
        y = 22 * row
        parts.append(f'<text x="0" y="{y + 15}">{one.low:.1f} to {one.high:.1f}</text>')
        parts.append(f'<rect class="bar" x="90" y="{y + 3}" width="{360 * one.count / most:.1f}" height="15"/>')
        parts.append(f'<text x="{96 + 360 * one.count / most:.1f}" y="{y + 15}">{one.count:,}</text>')
    return "".join([*parts, "</svg>"])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, preformatted: int | None = None) -> str:
    """Write a table. Cells keep their line breaks from column ``preformatted`` on."""
    parts = [f"<table><tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>"]
    for row in rows:
        cells = (
            f"<td><pre>{escape(cell)}</pre></td>"
            if preformatted is not None and place >= preformatted and cell
            else f"<td>{escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        parts.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*parts, "</table>"])


def _page(title: str, parts: Iterable[str]) -> str:
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    return f"{head}<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
