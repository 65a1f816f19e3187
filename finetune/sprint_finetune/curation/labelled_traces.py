"""Traces whose steps and dependencies are labelled by hand, and how well an extractor agrees with the labels.

A labelled trace is a text file: ``name: value`` lines, of which ``problem`` and ``answer`` are required, a blank line,
and the trace. In the trace, a line ``@3 after 1, 2`` opens step 3, which builds on steps 1 and 2.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sprint_agents.errors import ConfigurationError

from .dag import ancestors, dag_fault, dag_of, unordered_pairs
from .lines import as_ranges, lines_of, numbers_in
from .records import Dag, Extraction, Step, Trace
from .units import units_of

_FIELD = re.compile(r"(?P<name>\w+):\s*(?P<value>.*)")
_STEP = re.compile(r"@(?P<number>\d+)(?:\s+after\s+(?P<parents>\d+(?:\s*,\s*\d+)*))?\s*")


@dataclass(frozen=True, slots=True)
class LabelledTrace:
    """A trace, the fields of its header, and its hand-labelled steps and dependencies."""

    trace: Trace
    fields: Mapping[str, str]
    extraction: Extraction
    dag: Dag


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of pairs of steps.

    An extractor leaves ``claimed`` pairs unordered; ``right`` of them are independent according to the labels. The
    labels leave ``independent`` pairs unordered; the extractor finds ``found`` of them. So ``right / claimed`` is the
    precision of "independent", and ``found / independent`` its recall.
    """

    claimed: int
    right: int
    independent: int
    found: int

    @property
    def precision(self) -> float:
        """The share of claims that are right, or 1 without claims."""
        return self.right / self.claimed if self.claimed else 1.0

    @property
    def recall(self) -> float:
        """The share of independent pairs that were found, or 1 if there are none."""
        return self.found / self.independent if self.independent else 1.0

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.claimed + other.claimed,
            self.right + other.right,
            self.independent + other.independent,
            self.found + other.found,
        )


def read_labelled(path: Path) -> LabelledTrace:
    """Read a labelled trace. Its id is the file's name without the suffix.

    Raises:
        ConfigurationError: the file is not in the format, or its labels do not form a graph.
    """
    head, _, body = path.read_text(encoding="utf-8").partition("\n\n")
    fields = {match["name"]: match["value"] for line in head.splitlines() if (match := _FIELD.fullmatch(line))}
    if missing := {"problem", "answer"} - fields.keys():
        raise ConfigurationError(f"{path} has no line '{min(missing)}: …': add it at the beginning")
    text: list[str] = []
    labels: list[int] = []  # the step of each line
    steps: list[list[int]] = []
    parents: dict[int, list[int]] = {}
    for line in body.splitlines():
        if match := _STEP.fullmatch(line):
            steps.append([])
            if int(match["number"]) != len(steps):
                raise ConfigurationError(f"{path}: found step {match['number']} where step {len(steps)} is expected")
            parents[len(steps)] = [int(number) for number in re.findall(r"\d+", match["parents"] or "")]
        elif lines_of(line).chain:
            text.append(line)
            if not steps:
                raise ConfigurationError(f"{path}: {line!r} does not belong to a step: add a line '@1' before it")
            labels.append(len(steps))
    for number, unit in enumerate(units_of("\n".join(text)), 1):
        steps[labels[unit.line] - 1].append(number)
    if fault := dag_fault(parents, steps=len(steps)):
        raise ConfigurationError(f"{path}: {fault.detail}")
    trace = Trace(id=path.stem, problem=fields["problem"], trace="\n".join(text), answer=fields["answer"])
    labelled = tuple(Step(number=number, plan=as_ranges(lines)) for number, lines in enumerate(steps, 1))
    return LabelledTrace(trace, fields, Extraction(id=trace.id, steps=labelled), dag_of(trace.id, parents))


def measure_agreement(labelled: LabelledTrace, extraction: Extraction, dag: Dag) -> Agreement:
    """Compare the steps and dependencies that an extractor found with the labels, by the lines of each step.

    An unordered pair (a, b) of found steps is right if every labelled step that overlaps a differs from, and is
    independent of, every labelled step that overlaps b. A labelled pair counts as found by the same test on the found
    steps.
    """
    theirs = _lines(extraction)
    ours = _lines(labelled.extraction)
    claimed = unordered_pairs(dag.parents)
    independent = unordered_pairs(labelled.dag.parents)
    return Agreement(
        claimed=len(claimed),
        right=sum(_apart(theirs[a - 1], theirs[b - 1], ours, labelled.dag) for a, b in claimed),
        independent=len(independent),
        found=sum(_apart(ours[a - 1], ours[b - 1], theirs, dag) for a, b in independent),
    )


def _lines(extraction: Extraction) -> list[set[int]]:
    return [{*numbers_in([*step.plan, *step.execution, *step.comments])} for step in extraction.steps]


def _apart(a: set[int], b: set[int], steps: Sequence[set[int]], dag: Dag) -> bool:
    """Tell whether all steps with a line in ``a`` are independent of all steps with a line in ``b``."""
    above = ancestors(dag.parents)
    touched = [[number for number, lines in enumerate(steps, 1) if lines & part] for part in (a, b)]
    return all(x != y and x not in above[y - 1] and y not in above[x - 1] for x in touched[0] for y in touched[1])
