"""Who uses what another part made: parts that do not may stand side by side.

Each part is read once, and makers are looked up by what is used, so the work is in proportion to the text.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .evidence import Facts, equations, premises, telling, unvalued, valued, values_in


@dataclass(frozen=True, slots=True)
class Uses:
    """What a part may have from elsewhere: ``values``, and ``stated`` equations and powers that it does not explain."""

    values: frozenset[str]
    stated: frozenset[str]

    @classmethod
    def of(cls, lines: Sequence[str]) -> "Uses":
        """Read the lines of a part."""
        stated = premises(lines) | (unvalued(lines) - valued(lines))
        return cls(frozenset(telling(Facts.of(lines).used)), frozenset(stated))


class History:
    """Where each value of a trace stands for the first time: a number anywhere, a symbol where it is made."""

    def __init__(self, problem: str, lines: Sequence[str]) -> None:
        self._first: dict[str, int] = {}
        for index, line in enumerate([problem, *lines], -1):
            for value, role in values_in(line):
                if value[0].isdigit() or role != "used":
                    self._first.setdefault(value, index)

    def knows(self, value: str, *, before: int) -> bool:
        """Tell whether the problem or a line before this one, counted from 0, has a value."""
        return self._first.get(value, before) < before


class Makers:
    """Parts, by their places, and what they make; parts are added in rising order.

    ``unknowns`` are symbols of the problem itself, to which each part may give a value of its own.

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
        """Note what a part makes."""
        for value in telling(Facts.of(lines).made) - self._unknowns:
            self._values[value].append(place)
        for value in equations(lines) | valued(lines):
            self._stated[value].append(place)

    def lenders(self, uses: Uses, *, knows: Callable[[str], bool]) -> dict[int, set[str]]:
        """Find the parts that made what is used, each with the values that nothing ``knows`` otherwise."""
        found: defaultdict[int, set[str]] = defaultdict(set)
        for value, places in self._made(uses):
            if value in uses.stated or not knows(value):
                for place in places:
                    found[place].add(value)
        return dict(found)

    def latest(self, uses: Uses, *, before: int, knows: Callable[[str, int], bool]) -> int | None:
        """Find the last part before the place ``before`` that made what is used and was not known before that part.

        ``knows`` is asked of a value and the place of its first maker: whoever comes later knows it from there.
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
