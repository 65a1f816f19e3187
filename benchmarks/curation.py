"""Measure the precision and recall of the rule extractor against hand-written labels of independent steps.

    python benchmarks/curation.py [--folder tests/finetune/traces] [--traces] [--chains CHAINS.jsonl …]

A pair of steps is *claimed* if the extractor lets the two run side by side; the claim is right if no line of the one
builds on a line of the other by the labels. *Found* are those pairs of labelled steps, independent by the labels, that
the extractor lets run side by side. The traces were written in batches. Each was measured before the rules were changed
because of it; on what was new, the precision was then 70/112 (batch 2), 5/11 (3), 19/25 (4) and 30/32 (5).

``--chains`` measures chains that a 7B model wrote, which are not part of the repository: how many become samples, what
they gain, and the precision on the pairs in curation_pairs.csv. These pairs were drawn at random, one of each chain,
from those that the extractor called independent, and labelled by hand. A line number counts units (``curation.units``).
Pairs of the batch "tuning" were read while the rules were written; those of the freezes came afterwards. The third and
the fourth freeze are from the pairs that were left, so most of them are from a few chains. The fifth has one or two
pairs of each chain with pairs that are not in the other batches; its rules were written with the same chains at hand.
The batch "recall" has the pairs of passages, of two lines or more, that a reader of the 20 shortest chains called
independent.
"""

import argparse
import asyncio
import csv
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from sprint_finetune.curation import (
    Criteria,
    CurationSettings,
    Dag,
    Extraction,
    Report,
    RuleExtractor,
    Trace,
    curate,
    from_file,
)
from sprint_finetune.curation.dag import unordered_pairs
from sprint_finetune.curation.labelled_traces import Agreement, LabelledTrace, measure_agreement, read_labelled
from sprint_finetune.curation.lines import lines_of, numbers_in
from sprint_finetune.curation.rules.rule_extractor import read_steps

PAIRS = Path(__file__).with_name("curation_pairs.csv")
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


def measure_pairs(traces: Sequence[Trace]) -> None:
    """Print how many of the labelled pairs are independent: as drawn, and of those that are still claimed."""
    dags = {trace.id: read_steps(trace) for trace in traces}
    drawn: defaultdict[str, list[bool]] = defaultdict(list)
    claimed: defaultdict[str, list[bool]] = defaultdict(list)
    with PAIRS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["id"] not in dags:
                continue
            right = row["independent"] == "1"
            drawn[row["batch"]].append(right)
            if side_by_side(*dags[row["id"]], int(row["first_from"]), int(row["second_from"])):
                claimed[row["batch"]].append(right)
    for batch, found in drawn.items():
        if batch == "recall":
            low, high = wilson(len(claimed[batch]), len(found))
            share = f"{len(claimed[batch])} of {len(found)} independent pairs are claimed ({low:.2f} to {high:.2f})"
            print(f"\nrecall, by hand: {share}")
    print("\n| pairs | independent, as drawn | 95 % interval | independent, of those still claimed |")
    print("|---|---:|---:|---:|")
    after = [batch for batch in drawn if "freeze" in batch]
    for name, batches in [*((batch, [batch]) for batch in ("tuning", *after)), ("after a freeze, together", after)]:
        found = [right for batch in batches for right in drawn[batch]]
        still = [right for batch in batches for right in claimed[batch]]
        low, high = wilson(sum(found), len(found))
        share = f"{sum(found)}/{len(found)} | {low:.2f} to {high:.2f}"
        print(f"| {name} | {share} | {sum(still)}/{len(still)} |")


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson's score interval)."""
    z = 1.96
    middle, spread = (
        right / count + z * z / (2 * count),
        z * math.sqrt(right * (count - right) / count + z * z / 4) / count,
    )
    return (middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)


def side_by_side(extraction: Extraction, dag: Dag, first: int, second: int) -> bool:
    """Tell whether the steps of two lines are unordered."""
    owner = {
        line: step.number
        for step in extraction.steps
        for line in numbers_in([*step.plan, *step.execution, *step.comments])
    }
    return (owner[first], owner[second]) in unordered_pairs(dag.parents)


def measure_chains(traces: Sequence[Trace]) -> None:
    """Print what becomes of chains, and what the samples gain."""
    with tempfile.TemporaryDirectory() as folder:
        every = CurationSettings(criteria=Criteria(share=9))
        report = asyncio.run(curate(traces, Path(folder), extractor=RuleExtractor(), settings=every))
    gains = [share for share in report.strict_shares if share <= Criteria().share]
    print(f"\n{report.traces} chains: {report.samples} well formed and parallel, of which {len(gains)} gain enough")
    if report.strict_shares:
        middle = statistics.median(report.strict_shares)
        print(f"strict sequential tokens against the chain, before that criterion: {middle:.2f} (median)")
    print(f"strict sequential tokens against the chain, samples that are kept: {gains}")
    for count in report.rejected:
        print(f"  {count.count} rejected: {count.stage}, {count.reason}")


def curated(labelled: Sequence[LabelledTrace]) -> Report:
    """Take the traces through the whole pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(curate([one.trace for one in labelled], Path(folder), extractor=RuleExtractor()))


def main() -> None:
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=TRACES)
    parser.add_argument("--traces", action="store_true", help="a line for each trace")
    parser.add_argument("--chains", type=Path, nargs="*", default=[], help="files with chains of other models")
    arguments = parser.parse_args()
    if chains := [item for path in arguments.chains for item in from_file(path) if isinstance(item, Trace)]:
        measure_chains(chains)
        measure_pairs(chains)
        return
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
