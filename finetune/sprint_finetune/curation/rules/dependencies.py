"""Which parts use what another part made. Parts that do not may run in parallel.

Each part is read once, and the makers of a value are found by lookup, so the work is proportional to the text.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .facts import Facts, distinctive, equations, premises, unvalued_expressions, valued_expressions, values_in


@dataclass(frozen=True, slots=True)
class Uses:
    """The facts that a part may take from elsewhere: ``values``, and ``stated`` equations that it does not derive."""

    values: frozenset[str]
    stated: frozenset[str]

    @classmethod
    def of(cls, lines: Sequence[str]) -> "Uses":
        """Read the lines of a part."""
        stated = premises(lines) | (unvalued_expressions(lines) - valued_expressions(lines))
        return cls(frozenset(distinctive(Facts.of(lines).used)), frozenset(stated))


class History:
    """Where each value of a trace first occurs: a number anywhere, a symbol where it is made."""

    def __init__(self, problem: str, lines: Sequence[str]) -> None:
        self._first: dict[str, int] = {}
        for index, line in enumerate([problem, *lines], -1):
            for value, role in values_in(line):
                if value[0].isdigit() or role != "used":
                    self._first.setdefault(value, index)

    def knows(self, value: str, *, before: int) -> bool:
        """Tell whether a value occurs in the problem or before this line, counted from 0."""
        return self._first.get(value, before) < before


class Makers:
    """Parts, by their positions, and what they make. Parts are added in ascending order.

    ``unknowns`` are symbols of the problem, which each part may set to its own value.

    >>> makers = Makers(unknowns=set())
    >>> makers.add(0, ["9*8*7 = 504"])
    >>> makers.lenders(Uses.of(["So 504 * 2."]), knows=lambda value: False)
    {0: {'504'}}
    """

    def __init__(self, *, unknowns: set[str]) -> None:
        self._unknowns = unknowns
        self._values: defaultdict[str, list[int]] = defaultdict(list)
        self._stated: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, place: int, lines: Sequence[str]) -> None:
        """Record what a part makes."""
        for value in distinctive(Facts.of(lines).made) - self._unknowns:
            self._values[value].append(place)
        for value in equations(lines) | valued_expressions(lines):
            self._stated[value].append(place)

    def lenders(self, uses: Uses, *, knows: Callable[[str], bool]) -> dict[int, set[str]]:
        """Find the parts that made something in ``uses``, each with its values that are not already known.

        For example, if part 0 made 504 and part 2 uses it, the result is ``{0: {"504"}}``, unless ``knows("504")``
        because the problem mentions that number too.
        """
        found: defaultdict[int, set[str]] = defaultdict(set)
        for value, places in self._made(uses):
            if value in uses.stated or not knows(value):
                for place in places:
                    found[place].add(value)
        return dict(found)

    def latest(self, uses: Uses, *, before: int, knows: Callable[[str, int], bool]) -> int | None:
        """Find the last part before position ``before`` that made something new that ``uses`` contains.

        A value is new if it was not known before its first maker: all later parts could know it from there. ``knows``
        gets the value and the position of that maker.
        """
        latest: int | None = None
        for value, places in self._made(uses):
            if value in uses.stated:
                index = bisect_left(places, before) - 1
                place = places[index] if index >= 0 else None
            else:
                place = places[0] if places[0] < before and not knows(value, places[0]) else None
            if place is not None and (latest is None or place > latest):
                latest = place
        return latest

    def _made(self, uses: Uses) -> Iterator[tuple[str, list[int]]]:
        for used, made in ((uses.values - uses.stated, self._values), (uses.stated, self._stated)):
            for value in used:
                if value in made:
                    yield value, made[value]
