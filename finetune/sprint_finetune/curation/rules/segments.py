"""Cut a trace into blocks: plain reasoning, series of parallel parts, and second ways to the same result.

Blocks are sequential: each builds on all blocks before it. Only the members of a *series* may run in parallel, and an
*alternative* may start further back. If in doubt, a part ends early: the lines that are cut off become plain
reasoning, which builds on everything.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice, pairwise
from typing import Literal

from .dependencies import History
from .facts import Facts, distinctive
from .headings import METHODS, NAMED, Heading, headings_of, same_series, series_keys, shape_of_line
from .markers import (
    AGREES,
    ASKS,
    BACK_REFERENCE,
    COLLECTS,
    COMPARES,
    CONCLUSION,
    DOUBTS,
    LOOKS_BACK,
    NEW_THOUGHT,
    SEES_WHETHER,
    SETTLED,
    TURN,
    is_join,
    is_total,
)
from .mentions import Mentions
from .outcome import derives, is_in_words, names_answer, operates, states_answer
from .tasks import task_of
from .ways import Way, computes, is_new, pieces_of, ways_of, without_purpose

_LOOKED_AT = 50
"""How many members of a series are examined to tell it from a list."""

_REPEATED = 50
"""A series ends if so many headings in a row repeat earlier ones, as in a text that runs in a loop."""

_REACH = 8
"""The last member may be this many times as long as the longest other member."""

Key = tuple[str, tuple[str, ...], int]
BlockKind = Literal["plain", "series", "alternative"]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive lines, counted from 0. Each member is a half-open range. Only series have several members.

    The members of a ``named`` series are subtasks with names, even a single one. An alternative opens a
    ``way``. It is ``complete`` if the answer was stated before it, and it leads to the answer as well.
    """

    kind: BlockKind
    members: tuple[range, ...]
    named: bool = False
    way: Way | None = None
    complete: bool = False

    @property
    def start(self) -> int:
        """The first line of the block."""
        return self.members[0].start

    @property
    def stop(self) -> int:
        """The line after the block."""
        return self.members[-1].stop


def blocks_of(lines: Sequence[str], problem: str = "", answer: str = "") -> list[Block]:
    """Cut lines into blocks, which together cover all lines.

    ``answer`` is what the lines come to.

    >>> [block.kind for block in blocks_of(["Two cases.", "Case 1: a.", "One.", "Case 2: b.", "Two.", "In total 3."])]
    ['plain', 'series', 'plain']
    """
    segmenter = _Segmenter(lines, problem, answer)
    blocks: list[Block] = []
    while segmenter.position < len(lines):
        blocks.append(segmenter.next_block())
    return blocks


class _Segmenter:
    def __init__(self, lines: Sequence[str], problem: str, answer: str) -> None:
        self._lines = lines
        self._stated = states_answer(lines, answer)
        self._named = names_answer(lines, answer)
        self._in_words = is_in_words(answer)
        self._headings = headings_of(lines)
        self._ways = ways_of(lines)
        self._pieces: dict[str, int] = {}  # the line in which each number, symbol and formula occurs first
        for index, line in enumerate(lines):
            for piece in pieces_of(line):
                self._pieces.setdefault(piece, index)
        self._alternatives = [way is not None for way in self._ways]
        self._joins = _joins(lines)
        self._leads = _leads(lines, self._headings)
        self._totals = [is_total(line.strip()) for line in lines]
        self._turns = [TURN.match(line.strip()) is not None for line in lines]
        self._alike = _alike(self._headings)
        self._ends = {
            strong: [index for index in range(len(lines)) if self._ends_series(index, strong=strong)]
            for strong in (True, False)
        }
        self._history = History(problem, lines)
        self._mentions = Mentions(problem, lines)
        self.position = 0
        self._prepared = preamble_of(lines, problem)

    def next_block(self) -> Block:
        start = self.position
        block = self._alternative(start) or self._series(start) or self._plain(start)
        self.position = block.stop
        return block

    def _alternative(self, start: int) -> Block | None:
        """Read a second way to the same result, up to a line that compares it with the first or uses its values."""
        way = self._ways[start]
        if start == 0 or way is None:
            return None
        stop = way.says + 1
        while stop < len(self._lines) and not self._ends_alternative(stop) and not self._uses_first_way(stop, way):
            stop += 1
        end = stop
        # A last line without a calculation may refer to the first way too, so it is not part of the alternative.
        while stop > way.says + 1 and not computes(self._lines[stop - 1]):
            stop -= 1
        complete = self._is_complete(range(start, stop), end, opening=way)
        if way.check and not (complete and self._is_new(range(way.says, stop))):
            return None
        return Block("alternative", (range(start, stop),), way=way, complete=complete)

    def _is_new(self, check: range) -> bool:
        """Tell whether a check works with something that did not occur before it."""
        return is_new(self._lines[check.start : check.stop], known=lambda piece: self._pieces[piece] < check.start)

    def _is_complete(self, way: range, end: int, *, opening: Way) -> bool:
        """Tell whether a second way follows the answer and leads to it, or to a line that compares the two."""
        if self._in_words or not any(self._stated[self._prepared : way.start]):
            return False
        # A check of the answer begins with it: "Let me follow the water for 3 hours".
        if len(way) > 1 and (any(self._named[way.start : opening.says + 1]) or self._stated[opening.says]):
            return False
        if derives(self._lines[way.start : way.stop], self._stated[way.start : way.stop]):
            return True
        agrees = end < len(self._lines) and (
            self._stated[end] or (not opening.check and AGREES.search(self._lines[end]) is not None)
        )
        return agrees and sum(operates(line) for line in self._lines[way.start : end + 1]) > 1

    def _ends_alternative(self, index: int) -> bool:
        line = without_purpose(self._lines[index].strip())
        compares = any(pattern.search(line) for pattern in (COMPARES, LOOKS_BACK)) and not SEES_WHETHER.match(line)
        judges = any(pattern.match(line) for pattern in (SETTLED, DOUBTS))
        return compares or judges or self._alternatives[index] or "\\boxed" in line

    def _uses_first_way(self, index: int, way: Way) -> bool:
        """Tell whether a line uses what the text before the alternative introduced, after the preamble."""
        needed = self._mentions.needed(index, index + 1, opening=0)
        return index > way.says + 2 and needed in range(self._prepared, way.says)

    def _series(self, start: int) -> Block | None:
        starts = self._starts(start)
        if not starts:
            return None
        members = [range(a, b) for a, b in pairwise(starts)]
        named = self._is_named(start)
        end = self._next_lead(starts[-1]) if named else self._end_of_last(starts[-1], members)
        members.append(range(starts[-1], end))
        return Block("series", tuple(members), named)

    def _starts(self, start: int) -> list[int]:
        """Return the first lines of the members of the series that starts at ``start``, or an empty list."""
        if self._is_named(start):
            return [*self._members(start)]
        # Every line of a list is tested, and a list may be as long as the trace: look only at its beginning.
        starts = [*islice(self._members(start), _LOOKED_AT)]
        return [] if len(starts) < 2 or self._is_list(starts) else [*self._members(start)]

    def _members(self, start: int) -> Iterator[int]:
        """Yield the lines whose headings continue the series of the heading at ``start``."""
        first = self._headings[start]
        if first is None:
            return
        yield start
        seen = {(first.label, first.words)}
        ends = self._ends[first.strong]
        end = bisect_right(ends, start)
        repeated = 0
        for index in self._candidates(first, start):
            if end < len(ends) and ends[end] < index:
                return
            heading = self._headings[index]
            assert heading is not None, "every line in a group has a heading"
            new = (heading.label, heading.words) not in seen and same_series(first, heading)
            if not new and heading.strong and len(seen) > 1 and (heading.label, heading.words) in seen:
                return  # a second round, such as "Let me try each option. Option A: …"
            repeated = 0 if new else repeated + 1
            if repeated == _REPEATED:
                return
            if new:
                seen.add((heading.label, heading.words))
                yield index
            if end < len(ends) and ends[end] == index:
                if not new:
                    return
                end += 1

    def _candidates(self, heading: Heading, start: int) -> Iterator[int]:
        """Yield the lines after ``start`` in the groups of a heading, in order."""
        groups = [self._alike[key] for key in series_keys(heading)]
        later = (_after(group, start) for group in groups)
        last = start
        for index in merge(*later):
            if index != last:
                yield index
            last = index

    def _ends_series(self, index: int, *, strong: bool) -> bool:
        """Tell whether a series must end here. Between the members of a strong series the author may look back."""
        looks_back = self._turns[index] and not strong
        asks = ASKS.match(self._lines[index].strip()) is not None
        return asks or looks_back or self._alternatives[index] or self._joins[index] or self._leads[index]

    def _is_named(self, index: int) -> bool:
        heading = self._headings[index]
        return heading is not None and heading.kind in NAMED

    def _next_lead(self, index: int) -> int:
        """Find the end of a named part: the next announcement or the answer."""
        return next(
            (after for after in range(index + 1, len(self._lines)) if self._leads[after] or self._joins[after]),
            len(self._lines),
        )

    def _is_list(self, starts: Sequence[int]) -> bool:
        """Tell whether most members are single lines.

        Such a list is of no use to executors, and is often part of one thought.
        """
        short = [b - a == 1 for a, b in pairwise(starts)]
        return 2 * sum(short) >= len(short)

    def _end_of_last(self, start: int, others: Sequence[range]) -> int:
        """Find where the last member ends: before it looks back, and no later than the other members would.

        If the other members all end in lines of one pattern, it ends at such a line. Otherwise it is at most as long as
        they are.
        """
        longest = max(len(member) for member in others)
        bound = min(start + _REACH * longest, len(self._lines))
        limit = self._first_to_look_back(start, others, bound=bound)
        endings = {shape_of_line(self._lines[member[-1]]) for member in others}
        alike = [index + 1 for index in range(start + 1, limit) if shape_of_line(self._lines[index]) in endings]
        if alike and len(endings) == 1:
            return alike[0]
        return min(limit, start + longest)

    def _first_to_look_back(self, start: int, others: Sequence[range], *, bound: int) -> int:
        """Find the first line of the last member that also concerns the other members, or return ``bound``.

        No heading follows the last member, so only the content shows where it ends. Here the series has the members 0
        to 1 and 2 onwards::

            0  Multiples of 6: I divide 90 by 6.
            1  That gives 90/6 = 15 numbers.
            2  Multiples of 9: I divide 90 by 9.
            3  That gives 90/9 = 10 numbers.          its own result
            4  So there are 15 and 10 numbers.        looks back: 15 is the result of the first member

        A line looks back in any of these cases:

        - It uses the result of another member, or two numbers that only other members made. Numbers in the text
          before the series, or in the member's own earlier lines, do not count.
        - It states a total in words that no other member uses, such as "The sum is 25".
        - It starts a new thought, an alternative or a conclusion (``_moves_on``).
        """
        facts = [Facts.of(self._lines[index] for index in member) for member in others]
        made = distinctive(set[str]().union(*(fact.made for fact in facts)))
        results = distinctive({fact.result for fact in facts})
        openings = {_opening(self._lines[index]) for member in others for index in member}
        concludes = any(_concludes(self._lines[index]) for member in others for index in member)
        own = Facts.of([self._lines[start]])
        methods = (heading := self._headings[start]) is not None and heading.kind in METHODS
        for index in range(start + 1, bound):
            line = self._lines[index]
            found = Facts.of([line])
            # All methods lead to the same result, so ignore the numbers that a method computes again.
            foreign = distinctive(found.used if methods else found.mentioned - found.computed) & made
            numbers = {value for value in foreign if value[0].isdigit()} - own.mentioned
            numbers = {value for value in numbers if not self._history.knows(value, before=others[0].start)}
            # "The sum is …" belongs to the member itself if another member has a line with the same opening.
            total = self._totals[index] and _opening(line) not in openings
            concluding = _concludes(line) and not concludes
            if total or concluding or len(numbers) > 1 or numbers & results or self._moves_on(index):
                return index
            own.read(line)
        return bound

    def _moves_on(self, index: int) -> bool:
        """Tell whether a line cannot belong to a part that started before it."""
        line = self._lines[index].strip()
        new = (
            any(pattern.match(line) for pattern in (NEW_THOUGHT, ASKS, COLLECTS))
            or BACK_REFERENCE.search(line) is not None
        )
        return new or self._leads[index] or self._ends_part(index)

    def _ends_part(self, index: int) -> bool:
        settled = SETTLED.match(self._lines[index].strip()) is not None
        return settled or self._alternatives[index] or self._joins[index] or self._turns[index]

    def _plain(self, start: int) -> Block:
        stop = start + 1
        while stop < len(self._lines) and not self._opens(stop, within=start):
            stop += 1
        return Block("plain", (range(start, stop),))

    def _opens(self, index: int, *, within: int) -> bool:
        """Tell whether something new starts at a line of the plain reasoning that started at line ``within``."""
        if self._alternatives[index] or self._starts(index):
            return True
        # The opening of a trace has no results yet that it could combine or look back at.
        looks_back = within > 0 and (self._joins[index] or self._totals[index] or self._turns[index])
        return looks_back or NEW_THOUGHT.match(self._lines[index].strip()) is not None


def preamble_of(lines: Sequence[str], problem: str) -> int:
    """Return the line after the preamble, which sets the problem up, before the first thought or result.

    >>> preamble_of(["How many even numbers up to 40?", "They ask for a count.", "First, I list them."], "How many?")
    2
    """
    known = Facts.of([problem, lines[0]]).mentioned | {"0"} if lines else set[str]()
    for index in range(1, len(lines)):
        line = lines[index].strip()
        starts = NEW_THOUGHT.match(line) is not None or task_of(line) is not None or line.endswith("?")
        if starts or {value for value in Facts.of([line]).made if value[0].isdigit()} - known:
            return index
    return len(lines)


def _alike(headings: Sequence[Heading | None]) -> Mapping[Key, list[int]]:
    """Return the lines of each group of headings, in order."""
    found: defaultdict[Key, list[int]] = defaultdict(list)
    for index, heading in enumerate(headings):
        for key in series_keys(heading) if heading else ():
            found[key].append(index)
    return found


def _after(lines: Sequence[int], start: int) -> Iterator[int]:
    return (lines[place] for place in range(bisect_right(lines, start), len(lines)))


def _joins(lines: Sequence[str]) -> list[bool]:
    """Tell which lines combine several results, by their words or because the boxed answer follows."""
    boxed = ["\\boxed" in line for line in lines]
    return [
        is_join(line.strip()) or boxed[index] or (boxed[index + 1 : index + 2] == [True] and _concludes(line))
        for index, line in enumerate(lines)
    ]


def _leads(lines: Sequence[str], headings: Sequence[Heading | None]) -> list[bool]:
    """Tell which lines announce what follows without being members: by a colon, or by repeating a heading's words."""
    leads: list[bool] = []
    seen: set[tuple[str, ...]] = set()
    for line, heading in zip(lines, headings, strict=True):
        words = heading.words if heading and heading.kind == "title" and "#" not in heading.words else ()
        announces = line.rstrip().endswith(":") or words in seen
        leads.append(announces and (heading is None or not heading.strong))
        if len(words) > 1:
            seen.add(words)
    return leads


def _opening(line: str) -> str:
    return " ".join(line.split()[:3]).casefold()


def _concludes(line: str) -> bool:
    return CONCLUSION.match(line.strip()) is not None
