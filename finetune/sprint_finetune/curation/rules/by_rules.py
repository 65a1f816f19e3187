"""Steps and dependencies of a natural-language trace by rules, without any model.

Conservative: a step builds on everything before it, unless the text itself sets it apart (a series of cases, trials or
parts; a second way to the same result) and nothing in it points elsewhere: no value that another member made, no words
such as "by symmetry", no hint to the next trial. A missing parallelism is fine, a false independence is a bug.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from sprint_finetune.curation.dag import dag_of, free_steps, nearest
from sprint_finetune.curation.lines import as_ranges, lines_of
from sprint_finetune.curation.records import Dag, Extraction, Step, Trace

from .borrowing import History, Makers, Uses
from .evidence import Facts, symbols_of
from .headings import Heading, heading_of, inputs_of, restated
from .markers import BACK_REFERENCE, FEEDBACK, INSIGHT
from .segments import Block, blocks_of

_CAPITAL = re.compile(r"\b[A-Z]\b")


@dataclass(frozen=True, slots=True)
class RuleExtractor:
    """An ``Extractor`` of rules for English; the prompt of a step is its own first line, or the name that it has."""

    name: str = "rules-3"

    async def steps(self, trace: Trace) -> Extraction:
        """Find the steps of a trace that has at least one line."""
        return read_steps(trace)[0]

    async def dag(self, trace: Trace, extraction: Extraction) -> Dag:
        """Find what the steps build on; ``extraction`` is this extractor's own."""
        found, dag = read_steps(trace)
        if found != extraction:
            raise ValueError(
                f"the steps of {trace.id!r} are of another extractor: rules name parents only of their own"
            )
        return dag


def read_steps(trace: Trace) -> tuple[Extraction, Dag]:
    r"""Find the steps of a trace and what they build on; a pure function of its text.

    >>> text = "Two cases.\nCase 1: n is even.\nThen 5.\nCase 2: n is odd.\nThen 7.\nIn total 12."
    >>> extraction, dag = read_steps(Trace(id="t", problem="How many n?", trace=text, answer="12"))
    >>> [step.plan[0].first for step in extraction.steps], dag.parents
    ([1, 2, 4, 6], ((), (1,), (1,), (2, 3)))
    """
    lines = lines_of(trace.trace).chain
    reading = _Reading(trace.problem, lines)
    members, parents = reading.graph()
    free = free_steps(parents)  # where no other step may run beside one, there is no use in an executor
    numbers = range(1, len(members) + 1)
    steps = tuple(
        _named_step(number, lines, member)
        if member in reading.named
        else _step(number, lines, member, delegated=free[number - 1])
        for number, member in zip(numbers, members, strict=True)
    )
    return Extraction(id=trace.id, steps=steps), dag_of(trace.id, dict(zip(numbers, parents, strict=True)))


def _step(number: int, lines: Sequence[str], member: range, *, delegated: bool) -> Step:
    plan, execution = ([member.start], member[1:]) if delegated else (list(member), range(0))
    return Step(
        number=number,
        plan=as_ranges(index + 1 for index in plan),
        execution=as_ranges(index + 1 for index in execution),
        description=lines[member.start].strip()[:80],
    )


def _named_step(number: int, lines: Sequence[str], member: range) -> Step:
    """Delegate a part that has a name: by its heading, or by the label with which its execution begins."""
    heading = heading_of(lines[member.start])
    assert heading is not None, "a part is named by its heading"
    begins = member if heading.kind == "opening" else member[1:]
    if not begins:
        return _step(number, lines, member, delegated=False)
    return Step(
        number=number,
        plan=as_ranges(index + 1 for index in member if index not in begins),
        execution=as_ranges(index + 1 for index in begins),
        description=lines[member.start].strip()[:80],
        prompt=_prompt(heading, lines[member.start]),
        restates=heading.kind == "named",
    )


def _prompt(heading: Heading, line: str) -> str:
    """Return what the heading of a part that has a name asks for."""
    return heading.label if heading.kind == "opening" else restated(line)


class _Reading:
    """One trace under way from its blocks to steps: their lines, counted from 0, and their parents."""

    def __init__(self, problem: str, lines: Sequence[str]) -> None:
        self._lines = lines
        self._history = History(problem, lines)
        self._unknowns = symbols_of(problem)
        blocks = blocks_of(lines)
        # Where each alternative branches off: it builds on the blocks that end at or before this line.
        self._bases = self._find_bases(blocks) if any(block.kind == "alternative" for block in blocks) else {}
        self._blocks = self._merged(blocks)
        self.named = frozenset(member for block in blocks if block.named for member in block.members)

    def graph(self) -> tuple[list[range], list[tuple[int, ...]]]:
        """Return the lines and the parents of each step, numbered from 1."""
        members: list[range] = []
        parents: list[tuple[int, ...]] = []
        layers: list[tuple[int, tuple[int, ...]]] = [(0, ())]  # line behind a block, and what builds on the block needs
        loose: list[int] = []
        for block in self._blocks:
            first = len(members) + 1
            if block.kind == "alternative":
                base = self._bases[block.members[0].start]
                parents.append(layers[bisect_right(layers, base, key=lambda layer: layer[0]) - 1][1])
                loose.append(first)
            else:
                needed = (*layers[-1][1], *loose)
                parents += [(*needed, *(first + sibling for sibling in siblings)) for siblings in self._siblings(block)]
                layers.append((block.stop, tuple(range(first, first + len(block.members)))))
                loose = []
            members += block.members
        return members, nearest(parents)

    def _siblings(self, block: Block) -> list[list[int]]:
        """Find the earlier members of a block that each member builds on, by their places."""
        start = block.members[0].start
        headings = Facts()  # later members may read what earlier ones are about: it is in the plan
        makers = Makers(unknowns=self._unknowns)
        places: dict[str, int] = {}  # of the parts with names, by name

        def knows(value: str) -> bool:
            known = headings.mentioned if value[0].isdigit() else headings.made
            return value in known or self._history.knows(value, before=start)

        leading: list[int] = []
        found: list[list[int]] = []
        for place, member in enumerate(block.members):
            text = self._text(member)
            heading = heading_of(text[0]) if block.named else None
            if any(BACK_REFERENCE.search(line) for line in text):
                found.append(list(range(place)))
            else:
                # "A" is a word of English elsewhere, and no symbol: among parts with names it is one.
                named = {places[name] for line in text for name in _CAPITAL.findall(line) if name in places}
                found.append(sorted({*leading, *named, *makers.lenders(Uses.of(text), knows=knows)}))
            if any(FEEDBACK.search(line) or INSIGHT.search(line) for line in text):
                leading.append(place)
            makers.add(place, text)
            if heading:
                places[heading.label] = place
                headings.read(inputs_of(_prompt(heading, text[0])))
            else:
                headings.read(text[0].partition(":")[0])
        return found

    def _find_bases(self, blocks: Sequence[Block]) -> dict[int, int]:
        """Find where each alternative, named by its first line, branches off; at the earliest behind the first block.

        What comes before the first series prepares it, and is taken to prepare the alternative as well.
        """
        found: dict[int, int] = {}
        makers = Makers(unknowns=self._unknowns)
        series: int | None = None
        for place, block in enumerate(blocks):
            text = [line for member in block.members for line in self._text(member)]
            if block.kind == "alternative":
                base = self._base(text, blocks, place, makers)
                prepared = max(0 if series is None else series - 1, 0)
                found[block.members[0].start] = blocks[prepared if base is None else base].stop
            elif block.kind == "series" and series is None:
                series = place
            if place:
                makers.add(place, text)
        return found

    def _base(self, text: Sequence[str], blocks: Sequence[Block], place: int, makers: Makers) -> int | None:
        """Find the last block that an alternative needs something of, by its place; None if there is none."""
        if any(BACK_REFERENCE.search(line) for line in text):
            return place - 1

        def knows(value: str, maker: int) -> bool:
            return self._history.knows(value, before=blocks[maker].members[0].start)

        return makers.latest(Uses.of(text), before=place, knows=knows)

    def _text(self, member: range) -> Sequence[str]:
        return self._lines[member.start : member.stop]

    def _merged(self, blocks: Sequence[Block]) -> list[Block]:
        """Join plain blocks that follow one another into one step, unless an alternative branches off between them."""
        branchings = {*self._bases.values()}
        merged: list[Block] = []
        for block in blocks:
            joined = block
            if block.kind == "plain" and merged and merged[-1].kind == "plain" and merged[-1].stop not in branchings:
                joined = Block("plain", (range(merged.pop().members[0].start, block.stop),))
            merged.append(joined)
        return merged
