"""Find the steps and dependencies of a natural-language trace with rules, without a model.

The rules are conservative. A step builds on everything before it, unless two conditions hold: the text itself sets it
apart (a series of cases, trials or parts, or a second way to the same result), and nothing in it refers to a sibling:
no value that another member made, no words such as "by symmetry", no hint for the next trial. Missing some
parallelism is acceptable; a false independence is a bug.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

from sprint_finetune.curation.dag import dag_of, free_steps, nearest
from sprint_finetune.curation.lines import as_ranges, lines_of
from sprint_finetune.curation.records import Dag, Extraction, Step, Trace

from .dependencies import History, Makers, Uses
from .facts import Facts, symbols_of
from .headings import Heading, heading_of, heading_task, inputs_of
from .markers import (
    BACK_REFERENCE,
    COMPUTES,
    FEEDBACK,
    INSIGHT,
    TRANSITION,
)
from .mentions import Mentions, subjects_of
from .outcome import answer_in, states_answer
from .segments import Block, blocks_of, preamble_of
from .siblings import Siblings
from .tasks import is_heading_task, task_at, task_of
from .ways import FIRST_WAY, computes, starts_afresh, task_of_way

_SHORTEST_WAY = 2
"""Lines of a second way, at least."""

_COMPUTING = 2
"""Lines of a second way that compute something, at least."""

_CHECK_RESTARTS = 2
"""A check starts over from the problem in one of so many first lines."""

_SHORTEST_ASIDE = 5
"""Lines of a second way that does not lead to the answer, at least."""

_BESIDE = 0.5
"""The share of the first way's calculations that a second way does without, at least."""

_RESTARTS = 4
"""A second way mentions something of the problem in one of so many first lines."""

_OPENS = 8
"""A step sets its task in one of so many first lines."""

_WAY_OPENS = 3
"""A second way sets its task in one of so many first lines."""

_CAPITAL = re.compile(r"\b[A-Z]\b")


@dataclass(frozen=True, slots=True)
class RuleExtractor:
    """An ``Extractor`` with rules for English. A step's prompt is its first line, or its heading if it has a name."""

    name: str = "rules-6"

    async def steps(self, trace: Trace) -> Extraction:
        """Find the steps of a trace with at least one line."""
        return read_steps(trace)[0]

    async def dag(self, trace: Trace, extraction: Extraction) -> Dag:
        """Find the dependencies of the steps. ``extraction`` must come from this extractor."""
        found, dag = read_steps(trace)
        if found != extraction:
            raise ValueError(
                f"the steps of {trace.id!r} come from another extractor: pass those that RuleExtractor.steps returned"
            )
        return dag


def read_steps(trace: Trace) -> tuple[Extraction, Dag]:
    r"""Find the steps of a trace and their dependencies. The result depends only on the trace.

    >>> text = "Two cases.\nCase 1: n is even.\nThen 5.\nCase 2: n is odd.\nThen 7.\nIn total 12."
    >>> extraction, dag = read_steps(Trace(id="t", problem="How many n?", trace=text, answer="12"))
    >>> [step.plan[0].first for step in extraction.steps], dag.parents
    ([1, 2, 4, 6], ((), (1,), (1,), (2, 3)))
    """
    lines = lines_of(trace.trace).chain
    reading = _Reading(trace, lines)
    members, parents = reading.graph()
    free = free_steps(parents)  # an executor is useless for a step that is ordered with respect to all others
    numbers = range(1, len(members) + 1)
    steps = tuple(
        _named_step(number, lines, member)
        if member in reading.named
        else _step(number, lines, member, delegated=free[number - 1], whole=reading.whole.get(member))
        for number, member in zip(numbers, members, strict=True)
    )
    return Extraction(id=trace.id, steps=steps), dag_of(trace.id, dict(zip(numbers, parents, strict=True)))


def _step(number: int, lines: Sequence[str], member: range, *, delegated: bool, whole: str | None = None) -> Step:
    """Delegate a step by the first line that sets a task, if there is one; otherwise leave it to the planner.

    Lines before the task are comments: they prepare it, so they stay in the plan. ``whole`` is the task of a way to the
    answer, if none of its first lines sets one.
    """
    text = lines[member.start : member.stop]
    place = None
    if delegated:
        place = task_at(text, within=_WAY_OPENS) if whole else _task_place(text)
    if delegated and whole and place is None:
        plan, execution, comments, prompt = range(0), member, range(0), whole
    elif place is None or place + 1 == len(text):
        plan, execution, comments, prompt = member, range(0), range(0), None
    else:
        comments, plan, execution = member[:place], member[place : place + 1], member[place + 1 :]
        prompt = task_of(text[place])
    return Step(
        number=number,
        plan=as_ranges(index + 1 for index in plan),
        execution=as_ranges(index + 1 for index in execution),
        comments=as_ranges(index + 1 for index in comments),
        description=text[place or 0].strip()[:80],
        prompt=None if prompt == text[place or 0] else prompt,
        restates=bool(plan) and prompt is not None and prompt != text[place or 0],
    )


def _task_place(text: Sequence[str]) -> int | None:
    if is_heading_task(text[0]) and (heading_of(text[0]) is not None or task_of(text[0]) is not None):
        return 0
    return task_at(text, within=_OPENS)


def _named_step(number: int, lines: Sequence[str], member: range) -> Step:
    """Delegate a named part, either by its heading or by the label at the start of its execution."""
    heading = heading_of(lines[member.start])
    assert heading is not None, "a named part has a heading"
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
    """Return what the heading of a named part asks for."""
    return heading.label if heading.kind == "opening" else heading_task(line)


class _Reading:
    """One trace on its way from blocks to steps. Lines are counted from 0."""

    def __init__(self, trace: Trace, lines: Sequence[str]) -> None:
        problem = trace.problem
        answer = answer_in([*lines, *lines_of(trace.trace).conclusion]) or trace.answer
        self._problem = problem
        self._lines = lines
        self._stated = states_answer(lines, answer)
        self._working = [0, *accumulate(computes(line) for line in lines)]  # lines before each that compute something
        self._history = History(problem, lines)
        self._subjects = subjects_of(problem)
        self._unknowns = symbols_of(problem)
        blocks = blocks_of(lines, problem, answer)
        # The line where each alternative branches off: it builds on the blocks that end at or before that line.
        self._bases = self._find_bases(blocks) if any(block.kind == "alternative" for block in blocks) else {}
        self._blocks = self._merged(self._branching(blocks))
        self.whole = self._ways_to_the_answer()
        self.named = frozenset(member for block in blocks if block.named for member in block.members)

    def graph(self) -> tuple[list[range], list[tuple[int, ...]]]:
        """Return the lines and the parents of each step. Steps are numbered from 1.

        A step that follows a block builds on all members of that block. For the blocks plain, series of two,
        alternative and plain, the steps and their parents are::

            block         steps   parents
            plain         1       none
            series        2, 3    1 and 1
            alternative   4       1          if it branches off after the first block
            plain         5       2, 3, 4    the series, and the alternatives since then
        """
        members: list[range] = []
        parents: list[tuple[int, ...]] = []
        layers: list[tuple[int, tuple[int, ...]]] = [(0, ())]  # the line after a block, and the block's steps
        loose: list[tuple[int, int]] = []  # the alternatives since the last block, each with the line after it
        for block in self._blocks:
            first = len(members) + 1
            if block.kind == "alternative":
                base = self._bases[block.members[0].start]
                layer = layers[bisect_right(layers, base, key=lambda layer: layer[0]) - 1][1]
                parents.append(
                    (*layer, *(step for _, step in loose[: bisect_right(loose, base, key=lambda one: one[0])]))
                )
                loose.append((block.stop, first))
            else:
                needed = (*layers[-1][1], *(step for _, step in loose))
                parents += [(*needed, *(first + sibling for sibling in siblings)) for siblings in self._siblings(block)]
                layers.append((block.stop, tuple(range(first, first + len(block.members)))))
                loose = []
            members += block.members
        return members, nearest(parents)

    def _siblings(self, block: Block) -> list[list[int]]:
        """Find the earlier members of a block that each member builds on, by their positions."""
        start = block.members[0].start
        headings = Facts()  # the subjects of earlier members, which later ones may read in the plan
        makers = Makers(unknowns=self._unknowns)
        places: dict[str, int] = {}  # positions of the named parts

        def knows(value: str) -> bool:
            known = headings.mentioned if value[0].isdigit() else headings.made
            return value in known or self._history.knows(value, before=start)

        siblings = Siblings(problem=Facts.of([self._problem]).mentioned)
        leading: list[int] = []
        found: list[list[int]] = []
        for place, member in enumerate(block.members):
            text = self._text(member)
            heading = heading_of(text[0]) if block.named else None
            rests = not block.named and siblings.precede(text)
            if rests or any(BACK_REFERENCE.search(line) for line in text):
                found.append(list(range(place)))
            else:
                # Among named parts, a capital such as "A" refers to a part. Elsewhere it may be the English word.
                named = {places[name] for line in text for name in _CAPITAL.findall(line) if name in places}
                found.append(sorted({*leading, *named, *makers.lenders(Uses.of(text), knows=knows)}))
            states = not block.named and len(text) == 1 and not COMPUTES.search(text[0])
            prepares = not block.named and any(TRANSITION.match(line.strip()) for line in text[1:])
            if states or prepares or any(FEEDBACK.search(line) or INSIGHT.search(line) for line in text):
                leading.append(place)  # a premise of all later members, such as "Row 1: [4, -1, 2]"
            makers.add(place, text)
            siblings.add(text)
            if heading:
                places[heading.label] = place
                headings.read(inputs_of(_prompt(heading, text[0])))
            else:
                headings.read(text[0].partition(":")[0])
        return found

    def _ways_to_the_answer(self) -> dict[range, str]:
        """Return the complete alternatives, and the plain reasoning beside which they run, each with its task."""
        found: dict[range, str] = {}
        for block in self._blocks:
            if block.kind == "alternative" and block.complete:
                assert block.way is not None, "an alternative opens a way"
                found[block.members[0]] = task_of_way(block.way)
        branchings = {self._bases[member.start] for member in found}
        for block in self._blocks:
            if block.kind == "plain" and block.start in branchings and any(self._stated[block.start : block.stop]):
                found[block.members[0]] = FIRST_WAY
        return found

    def _find_bases(self, blocks: Sequence[Block]) -> dict[int, int]:
        """Find the line where each alternative branches off, keyed by its first line.

        It branches off after the preamble and after all lines that it needs. A series or another alternative that it
        needs comes before it as a whole.
        """
        found: dict[int, int] = {}
        mentions = Mentions(self._problem, self._lines)
        preamble = preamble_of(self._lines, self._problem)
        series = next((place for place, block in enumerate(blocks) if block.kind == "series"), None)
        whole = {
            line: block.stop for block in blocks if block.kind != "plain" for line in range(block.start, block.stop)
        }
        for place, block in enumerate(blocks):
            if block.kind != "alternative":
                continue
            # What does not lead to the answer may be an aside, for which everything before the first series prepares.
            before = blocks[max(series - 1, 0)].stop if series is not None and series < place else 0
            prepared = max(preamble, before if block.complete else before or blocks[0].stop)
            needed = self._needed(block, mentions)
            base = block.start if needed is None else max(needed + 1, prepared)
            base = min(whole.get(base - 1, base), block.start)
            beside = self._is_beside(preamble, base, block)
            found[block.start] = base if beside else block.start
        return found

    def _is_beside(self, preamble: int, base: int, block: Block) -> bool:
        """Tell whether there is work between line ``base`` and an alternative, which could run beside it.

        For a complete alternative, that is much of the work on the first way, up to the answer.
        """
        working = self._working
        if not block.complete:
            return working[block.start] - working[base] >= _COMPUTING
        first = next((line + 1 for line in range(base, block.start) if self._stated[line]), None)
        if first is None:
            return False
        return working[first] - working[base] >= _BESIDE * (working[first] - working[preamble])

    def _needed(self, block: Block, mentions: Mentions) -> int | None:
        """Find the last line that an alternative needs, -1 if none, or None if it refers to what was just said."""
        way = block.way
        assert way is not None, "an alternative opens a way"
        text = self._lines[way.says : block.stop]
        if not starts_afresh(way, self._subjects) or not self._restarts(text, complete=block.complete, check=way.check):
            return None
        if not block.complete and task_at(text, within=_WAY_OPENS) is None:
            return None
        return mentions.needed(block.start, block.stop, opening=_WAY_OPENS)

    def _restarts(self, text: Sequence[str], *, complete: bool, check: bool) -> bool:
        """Tell whether an alternative starts from the problem, and gets somewhere: it computes, and it is no aside."""
        begins = " ".join(text[: _CHECK_RESTARTS if check else _RESTARTS])
        known = [word for word in self._subjects if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", begins)]
        signs = [word for word in known if len(word) < 4 or not word.isalpha()]
        working = sum(computes(line) for line in text)
        if complete:
            return len(text) >= _SHORTEST_WAY and working > 0 and bool(known)
        return len(text) >= _SHORTEST_ASIDE and working >= _COMPUTING and bool(signs or len(known) > 1)

    def _text(self, member: range) -> Sequence[str]:
        return self._lines[member.start : member.stop]

    def _branching(self, blocks: Sequence[Block]) -> list[Block]:
        """Turn the alternatives that build on everything before them into plain reasoning."""
        found: list[Block] = []
        for block in blocks:
            if block.kind == "alternative" and self._bases[block.start] == block.start:
                del self._bases[block.start]
                found.append(Block("plain", block.members))
            else:
                found.append(block)
        return found

    def _merged(self, blocks: Sequence[Block]) -> list[Block]:
        """Make one step of consecutive plain blocks, and cut it where an alternative branches off."""
        branchings = sorted({*self._bases.values()})
        merged: list[Block] = []
        for kind, group in groupby(blocks, key=lambda block: block.kind):
            together = list(group)
            if kind != "plain":
                merged += together
                continue
            start, stop = together[0].start, together[-1].stop
            cuts = [start, *(line for line in branchings if start < line < stop), stop]
            merged += [Block("plain", (range(a, b),)) for a, b in pairwise(cuts)]
        return merged
