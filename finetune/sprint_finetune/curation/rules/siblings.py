"""What the earlier members of a series came to, and whether a later one goes on from there.

Only what a member states as a result counts, so the work is proportional to the text.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

from .facts import Facts, distinctive
from .headings import heading_of
from .markers import COMPUTES
from .mentions import formulas_in, results_in

_READ = 400
"""Characters of a line in which a list of members may be."""
_BEGINS = 4
"""A member goes on from another in one of so many first lines."""
_NUMBERS = re.compile(r"\d+(?:,? (?:and |or )?\d+)+")
_NAMED = re.compile(r"(?<!\w)(?P<name>[A-Za-z]\w*)\s*=(?P<value>[^=\n]{1,80})")
_RESULT = re.compile(r"=\s*(?P<value>-?\d+(?:\.\d+)?)[.,;]?\s*$")
_OPERAND = re.compile(r"(?<![\w.])(?P<value>\d+(?:\.\d+)?)(?![\w.])\s*[-+*/^)]")


class Siblings:
    """The members of a series, added in order. ``problem`` is what the problem mentions.

    >>> siblings = Siblings(problem=set())
    >>> siblings.add(["1. First digit: 1", "remainder = (0 * 10 + 1) mod 18 = 1"])
    >>> siblings.precede(["2. Second digit: 4", "remainder = (1 * 10 + 4) mod 18 = 14"])
    True
    """

    def __init__(self, *, problem: set[str]) -> None:
        self._problem = problem
        self._results: set[str] = set()
        self._named: defaultdict[str, set[str]] = defaultdict(set)
        self._labels: set[str] = set()

    def add(self, text: Sequence[str]) -> None:
        """Record what a member came to."""
        self._results |= {formula for line in text for formula in results_in(line)}
        self._results |= distinctive({Facts.of(text).result}) - self._problem
        for line in text:
            ends = _RESULT.search(line[-_READ:])
            if ends:
                for match in _NAMED.finditer(line[:_READ]):
                    self._named[match["name"]].add(ends["value"])
        heading = heading_of(text[0])
        if heading:
            self._labels.add(heading.label)

    def precede(self, text: Sequence[str]) -> bool:
        """Tell whether a later member only sums up, or computes with what an earlier one came to."""
        if len(text) == 1 and not COMPUTES.search(text[0]):
            return True
        begins = text[:_BEGINS]
        used = Facts.of(begins).used.union(*(formulas_in(line) for line in begins))
        return not self._results.isdisjoint(used) or any(self._listed(line) or self._recurs(line) for line in begins)

    def _listed(self, line: str) -> bool:
        """Tell whether a line lists several earlier members by their numbers: "5 stones: moves to 4, 2, 1"."""
        lists = (re.findall(r"\d+", match.group()) for match in _NUMBERS.finditer(line[:_READ]))
        return any(len(self._labels.intersection(numbers)) > 1 for numbers in lists)

    def _recurs(self, line: str) -> bool:
        """Tell whether a line computes with the number that an earlier member ends in, under the same name."""
        return any(
            not self._named[match["name"]].isdisjoint(found["value"] for found in _OPERAND.finditer(match["value"]))
            for match in _NAMED.finditer(line[:_READ])
            if match["name"] in self._named
        )
