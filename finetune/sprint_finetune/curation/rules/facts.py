"""The numbers, symbols and equations that a piece of reasoning uses and makes.

A number is *made* after an equals sign or a verb that states a result (``= 33``, ``gives 33``), after the colon of a
table row (``21 2 : 23 19 42``), or in a list of four or more. It is *used* anywhere else, and where an operation is
applied to it. Small numbers are too common to prove a dependency, but the powers, function values and plain equations
that contain them may do so.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

SMALLEST = 10
"""Smaller numbers are too common to identify their origin."""

_NUMBER = re.compile(r"(?<![\w.\\])\d+(?:,\d{3}(?!\d))*(?:\.\d+)?")
_MADE = re.compile(
    r"(?:[=\u2261\u2248\u2192]|'s|\b(?:is|are|was|were|gives?|giving|gave|gets?|makes?|make it|equals?|"
    r"equal to|yields?|becomes?|has|have|sums? to|comes? to|contributes?|total(?:s|ly)? of|"
    r"about|only|exactly|leaves?|leaving|remainder|be|so))"
    r"\s*(?:about\s+|only\s+|exactly\s+|also\s+|\$|\(|-|\+|\\boxed\{)*$",
    re.IGNORECASE,
)
_ROW = re.compile(r"\s*\d+(?:\s+\d+)+\s+:(?=(?:\s+\w+){3,}\s*$)")
_LIST = re.compile(r"(?<![\w.])(?:\d+(?:\.\d+)?,\s+(?:and )?){3,}\d+(?:\.\d+)?")
"""Matches a list of four numbers or more."""
_OPERAND = re.compile(r"\s*[-+*^\u00d7\u00b7]\s*[\w(\\]|\s+/\s")
"""Matches after a number that is an operand of a calculation."""
_SYMBOL = re.compile(r"(?<![\w\\'])(?:[A-Z]{2,4}|[A-Za-z](?:_\{?\w+\}?|\d)?'?|\\[a-z]+(?:_\w+)?)(?![\w'])")
_ASSIGNED = re.compile(r"(?<![\w\\'])(?P<symbol>[A-Z]{2,4}|[A-Za-z](?:_\{?\w+\}?|\d)?)\s*(?:=|:=|\u2261)(?!=)")
_DECLARED = re.compile(
    r"\b(?:let|denote|define|call|set|say|write|where|with|foot is|point)\s+(?:it\s+|this\s+|the \w+ )?\$?"
    r"(?P<symbol>[A-Z]{2,4}|[A-Za-z](?:_\{?\w+\}?|\d)?)(?=\s*(?:\(|be\b|denote|=|is\b|for\b|,))",
    re.IGNORECASE,
)
_EQUATION = re.compile(rf"{_ASSIGNED.pattern}\s*(?P<value>-?\d+(?:\.\d+)?)(?![\d.]*(?:\w|\s*[-+*/^(]))")
_PREMISE = re.compile(
    rf"\b(?:with|since|as|because|using|given|when|substitut\w+|plug\w*(?:\s+in)?|know(?:ing)?(?:\s+that)?)\s+\$?(?:that\s+)?{_EQUATION.pattern}",
    re.IGNORECASE,
)
_EXPRESSION = re.compile(
    r"(?<![\w.^])(?:\w+\^(?:\w+|\([^()]*\)|\{[^{}]*\})|[A-Za-z]+\([\d\s,.+-]+\)|\d+!)(?P<valued>\s*(?:=|\u2261|is\b|ends\b))?"
)
_WORDS = frozenset({"a", "A", "I", "OK", "\\boxed", "\\frac", "\\cdot", "\\times", "\\le", "\\ge", "\\sqrt", "\\text"})


Role = Literal["used", "made", "computed"]


@dataclass(slots=True)
class Facts:
    """The numbers and symbols of some lines: those ``made`` in them, and those ``used`` before they were made.

    ``computed`` numbers come directly after an equals sign. ``result`` is the number that was made last.
    """

    made: set[str] = field(default_factory=set[str])
    computed: set[str] = field(default_factory=set[str])
    used: set[str] = field(default_factory=set[str])
    mentioned: set[str] = field(default_factory=set[str])
    result: str = "0"

    @classmethod
    def of(cls, lines: Iterable[str]) -> "Facts":
        """Read lines in order.

        >>> facts = Facts.of(["Half of 240 is 120.", "So AC = 120 and 2 * 120 = 240."])
        >>> sorted(facts.made), sorted(facts.used)
        (['120', '240', 'AC'], ['2', '240'])
        """
        facts = cls()
        for line in lines:
            facts.read(line)
        return facts

    def read(self, line: str) -> None:
        """Add a line."""
        for value, role in values_in(line):
            self.mentioned.add(value)
            if role == "used":
                if value not in self.made:
                    self.used.add(value)
                continue
            self.made.add(value)
            if role == "computed":
                self.computed.add(value)
            if value[0].isdigit():
                self.result = value


@lru_cache(maxsize=4096)
def values_in(line: str) -> tuple[tuple[str, Role], ...]:
    """Return the numbers and then the symbols of a line, each with its role. Cached, since lines are read often."""
    found: list[tuple[str, Role]] = []
    row = _ROW.match(line)
    lists = [found.span() for found in _LIST.finditer(line)]
    for match in _NUMBER.finditer(line):
        listed = any(first <= match.start() < last for first, last in lists)
        role: Role = "made" if listed or (row and match.start() >= row.end()) else "used"
        before = line[max(0, match.start() - 30) : match.start()]
        if _OPERAND.match(line, match.end()) is None and _MADE.search(before):
            role = "computed" if before.rstrip(" $").endswith("=") else "made"
        found.append((match.group().replace(",", ""), role))
    declared = [*_ASSIGNED.finditer(line), *_DECLARED.finditer(line)]
    defined = {match["symbol"]: match.start("symbol") for match in declared}
    symbols = ((match.group(), match.start()) for match in _SYMBOL.finditer(line) if match.group() not in _WORDS)
    return (*found, *((symbol, "made" if defined.get(symbol) == start else "used") for symbol, start in symbols))


def premises(lines: Sequence[str]) -> set[str]:
    """Return the plain equations that a part may have taken from elsewhere.

    These are the equations in its first two lines, and those after words such as "with".

    >>> sorted(premises(["Use the middle term.", "a_7 = 16 is the mean.", "So x = 2.", "With m = 6 it's 5."]))
    ['a_7=16', 'm=6']
    """
    later = {f"{match['symbol']}={match['value']}" for line in lines for match in _PREMISE.finditer(line)}
    return equations(lines[:2]) | later


def valued_expressions(lines: Iterable[str]) -> set[str]:
    """Return the powers, function values and factorials that get a value. ``unvalued_expressions`` returns the others.

    >>> valued_expressions(["2^3 = 8."]), unvalued_expressions(["So 4^3 = (2^3)^2."])
    ({'2^3'}, {'2^3'})
    """
    return {_expression(match) for line in lines for match in _EXPRESSION.finditer(line) if match["valued"]}


def unvalued_expressions(lines: Iterable[str]) -> set[str]:
    """Return the powers, function values and factorials that are used without getting a value."""
    return {_expression(match) for line in lines for match in _EXPRESSION.finditer(line) if not match["valued"]}


def _expression(match: re.Match[str]) -> str:
    return "".join(match.group().removesuffix(match["valued"] or "").split())


def equations(lines: Iterable[str]) -> set[str]:
    """Return the equations that set a symbol to a plain number."""
    return {f"{match['symbol']}={match['value']}" for line in lines for match in _EQUATION.finditer(line)}


def distinctive(values: Iterable[str]) -> set[str]:
    """Keep the values that identify their origin: symbols, and numbers that are not small."""
    return {value for value in values if not value[0].isdigit() or float(value) >= SMALLEST or "." in value}


def symbols_of(text: str) -> set[str]:
    """Return the symbols that a text mentions."""
    return {value for value in Facts.of([text]).mentioned if not value[0].isdigit()}
