"""Measure the precision and recall of the rule extractor against hand-written labels of independent steps.

    python benchmarks/curation.py [--folder tests/finetune/traces] [--traces]

A pair of steps is *claimed* if the extractor lets the two run side by side; the claim is right if no line of the one
builds on a line of the other by the labels. *Found* are those pairs of labelled steps, independent by the labels, that
the extractor lets run side by side. The traces were written in batches. Each was measured before the rules were changed
because of it; on what was new, the precision was then 70/112 (batch 2), 5/11 (3), 19/25 (4) and 30/32 (5).
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from sprint_finetune.curation import Report, RuleExtractor, curate
from sprint_finetune.curation.labelled_traces import Agreement, LabelledTrace, measure_agreement, read_labelled
from sprint_finetune.curation.lines import lines_of
from sprint_finetune.curation.rules.rule_extractor import read_steps

TRACES = Path(__file__).parents[1] / "tests" / "finetune" / "traces"


def row(name: str, traces: int, found: Agreement) -> str:
    """Write one line of the table."""
    return (
        f"| {name} | {traces} | {found.right}/{found.claimed} | {found.precision:.3f} "
        f"| {found.found}/{found.independent} | {found.recall:.3f} |"
    )


def total(found: Iterable[Agreement]) -> Agreement:
    """Add up."""
    return sum(found, Agreement(0, 0, 0, 0))


def measure(labelled: Sequence[LabelledTrace], *, each: bool) -> None:
    """Print the agreement by batch, or of each trace."""
    groups: defaultdict[str, list[Agreement]] = defaultdict(list)
    seconds: list[float] = []
    for one in labelled:
        start = time.perf_counter()
        extraction, dag = read_steps(one.trace)
        seconds.append(time.perf_counter() - start)
        groups[one.trace.id if each else f"batch {one.fields['batch']}"].append(measure_agreement(one, extraction, dag))
    print("| | traces | right of claimed | precision | found of independent | recall |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, found in sorted(groups.items()):
        print(row(name, len(found), total(found)))
    print(row("all", len(labelled), total(one for found in groups.values() for one in found)))
    lines = sum(len(lines_of(one.trace.trace).chain) for one in labelled)
    print(f"\n{lines} lines; {1000 * statistics.median(seconds):.1f} ms a trace (median)")


def curated(labelled: Sequence[LabelledTrace]) -> Report:
    """Take the traces through the whole pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(curate([one.trace for one in labelled], Path(folder), extractor=RuleExtractor()))


def main() -> None:
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=TRACES)
    parser.add_argument("--traces", action="store_true", help="a line for each trace")
    arguments = parser.parse_args()
    labelled = [read_labelled(path) for path in sorted(arguments.folder.glob("*.txt"))]
    measure(labelled, each=arguments.traces)
    report = curated(labelled)
    print(f"\n{report.samples} of {report.traces} traces become samples, with {report.lines} lines, each kept once;")
    print(f"{report.violations} dependency violations", end="")
    if report.sequential_share is not None:
        print(f"; sequential tokens {report.sequential_share:.0%} of the chains', in words and without tags")
    for count in report.rejected:
        print(f"  {count.count} rejected: {count.stage}, {count.reason}")


if __name__ == "__main__":
    main()
