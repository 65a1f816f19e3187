"""Steps and dependencies of a natural-language trace by rules, without any model.

Conservative: a step builds on everything before it, unless the text itself sets it apart (a series of cases, trials or
parts; a second way to the same result) and nothing in it points elsewhere: no value that another member made, no words
such as "by symmetry", no hint to the next trial. A missing parallelism is fine, a false independence is a bug.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sprint_agents.tasks import recognise

from .dag import ancestors, dag_of
from .evidence import Facts, borrowed, symbols_of
from .lines import as_ranges, lines_of
from .markers import BACK_REFERENCE, FEEDBACK, INSIGHT
from .records import Dag, Extraction, Step, Trace
from .segments import Block, blocks_of


@dataclass(frozen=True, slots=True)
class RuleExtractor:
    """An ``Extractor`` of rules for English; the prompt of a step is its own first line."""

    name: str = "rules-1"

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
    above = ancestors(parents)
    numbers = range(1, len(members) + 1)
    steps = tuple(
        _step(number, lines, member, delegated=member in reading.named or _is_free(number, above))
        for number, member in zip(numbers, members, strict=True)
    )
    return Extraction(id=trace.id, steps=steps), dag_of(trace.id, dict(zip(numbers, parents, strict=True)))


def _is_free(step: int, above: Sequence[frozenset[int]]) -> bool:
    """Tell whether some other step may run beside this one; if none may, there is no use in an executor."""
    others = (other for other in range(1, len(above) + 1) if other != step)
    return any(other not in above[step - 1] and step not in above[other - 1] for other in others)


def _step(number: int, lines: Sequence[str], member: range, *, delegated: bool) -> Step:
    plan, execution = ([member.start], member[1:]) if delegated else (list(member), range(0))
    return Step(
        number=number,
        plan=as_ranges(index + 1 for index in plan),
        execution=as_ranges(index + 1 for index in execution),
        description=lines[member.start].strip()[:80],
    )


class _Reading:
    """One trace under way from its blocks to steps: their lines, counted from 0, and their parents."""

    def __init__(self, problem: str, lines: Sequence[str]) -> None:
        self._problem = problem
        self._lines = lines
        self._unknowns = symbols_of(problem)
        # The trace of such a task is a table, in which equal numbers are coincidences; its parts have names.
        self._numbers_tell = recognise(problem) is None
        blocks = blocks_of(lines, numbers_tell=self._numbers_tell)
        # Where each alternative branches off: it builds on the blocks that end at or before this line.
        self._bases = {
            block.members[0].start: self._base(blocks, block) for block in blocks if block.kind == "alternative"
        }
        self._blocks = self._merged(blocks)
        self.named = frozenset(member for block in blocks if block.named for member in block.members)

    def graph(self) -> tuple[list[range], list[tuple[int, ...]]]:
        """Return the lines and the parents of each step, numbered from 1."""
        members: list[range] = []
        parents: list[tuple[int, ...]] = []
        layers: list[tuple[int, tuple[int, ...]]] = [(0, ())]  # line behind a block, and what builds on the block needs
        loose: tuple[int, ...] = ()
        for block in self._blocks:
            first = len(members) + 1
            if block.kind == "alternative":
                base = self._bases[block.members[0].start]
                parents.append(next(needed for stop, needed in reversed(layers) if stop <= base))
                loose = (*loose, first)
            else:
                needed = (*layers[-1][1], *loose)
                parents += [(*needed, *(first + sibling for sibling in siblings)) for siblings in self._siblings(block)]
                layers.append((block.stop, tuple(range(first, first + len(block.members)))))
                loose = ()
            members += block.members
        return members, [_nearest(named, parents) for named in parents]

    def _siblings(self, block: Block) -> list[list[int]]:
        """Find the earlier members of a block that each member builds on, by their places."""
        known = self._read_before(block.members[0].start)
        texts = [[self._lines[index] for index in member] for member in block.members]
        found: list[list[int]] = []
        for place, text in enumerate(texts):
            if any(BACK_REFERENCE.search(line) for line in text):
                found.append(list(range(place)))
            else:
                found.append([earlier for earlier in range(place) if self._leads(texts[earlier], text, known)])
            known.read(text[0].partition(":")[0])  # later members may read what this one is about: it is in the plan
        return found

    def _leads(self, earlier: Sequence[str], later: Sequence[str], known: Facts) -> bool:
        """Tell whether a member needs something that an earlier one found, or decided."""
        if any(FEEDBACK.search(line) or INSIGHT.search(line) for line in earlier):
            return True
        return self._borrows(later, earlier, known)

    def _base(self, blocks: Sequence[Block], alternative: Block) -> int:
        """Find the line up to which an alternative builds on what stands before it; at least on the first block."""
        text = [self._lines[index] for member in alternative.members for index in member]
        before = [block for block in blocks if block.stop <= alternative.members[0].start]
        if any(BACK_REFERENCE.search(line) for line in text):
            return before[-1].stop
        for block in reversed(before[1:]):
            made = [self._lines[index] for member in block.members for index in member]
            # What both may read is only looked up where it matters: it is most of the trace.
            if self._borrows(text, made, Facts()):
                known = self._read_before(block.members[0].start)
                if self._borrows(text, made, known):
                    return block.stop
        # What comes before the first series prepares it, and is taken to prepare the alternative as well.
        series = next((place for place, block in enumerate(before) if block.kind == "series"), 1)
        return before[max(series - 1, 0)].stop

    def _borrows(self, user: Sequence[str], maker: Sequence[str], known: Facts) -> bool:
        values = borrowed(user, maker, known=known, unknowns=self._unknowns)
        return any(self._numbers_tell or not value[0].isdigit() for value in values)

    def _read_before(self, line: int) -> Facts:
        return Facts.of([self._problem, *self._lines[:line]])

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


def _nearest(named: Sequence[int], parents: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Leave out the parents that other parents build on."""
    above = ancestors(parents[: max(named, default=0)])
    distant = frozenset[int]().union(*(above[parent - 1] for parent in named))
    return tuple(sorted({*named} - distant))
