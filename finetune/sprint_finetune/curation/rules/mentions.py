"""Where each symbol, number, named quantity and formula of a trace is mentioned first, and where it gets a value.

A passage needs the lines that introduced what it mentions: ``c/a`` from the line that derived it, "the slope" from the
line that says "the slope is …". What the problem mentions is known from the beginning. Small numbers are too common.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

from .facts import distinctive, values_in

_READ = 600
"""Characters of a line; some patterns scan the text repeatedly."""

_RUN = re.compile(
    r"(?:[\w\\{}()\[\]^_.'|!\u00b2\u00b3\u00b9\u221a\u0370-\u03ff]+\s*[-+*/^\u00d7\u00b7\u2212]\s*)+"
    r"[\w\\{}()\[\]^_.'|!\u00b2\u00b3\u00b9\u221a\u0370-\u03ff]+"
)
_GROUP = re.compile(r"\([^()]{2,40}\)\^?\{?\d*\}?|[A-Z]\s?\([^()]{2,30}\)")
_POWERS = {
    ord(sign): f"^{digit}" for digit, sign in enumerate("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
}
_BRACED = re.compile(r"\^\{(\w+)\}")
_COORDINATES = re.compile(r"[A-Z]\([^()]*,[^()]*\)")
_PROSE = re.compile(r"[A-Za-z]{4,}(?:-[A-Za-z]+)*|[a-z]+-[a-z]+")
_DEFINED = re.compile(
    r"\b(?:the|its|our|this)\s+(?:\w+\s+)?(?P<noun>[a-z]{4,})(?:\s+(?:of|for|between|from|to|in|at)\s+[^.,=]{1,40}?)?\s*"
    r"(?:is|are|was|equals?|becomes?|=|would be|will be|must be|should be|gives)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:the|its|our|this|that|these|those)\s+(?:\w+\s+)?(?P<noun>[a-z]{4,})\b", re.IGNORECASE)
_LOCATED = re.compile(r"\b(?P<symbol>[A-Z][a-z]?'?)\s*(?:is at|is the point|is located|has coordinates|is|=|:|\(|lies)")
_SUPPOSED = re.compile(
    r"\b(?:consider|note|notice|recall|remember|know|since|because|as)\s+(?:that\s+)?\$?[A-Za-z]\s*=", re.IGNORECASE
)
"""States an equation of a symbol as known."""
_COMMON = frozenset(
    [
        "problem",
        "question",
        "equation",
        "equations",
        "answer",
        "number",
        "numbers",
        "value",
        "values",
        "same",
        "first",
        "second",
        "other",
        "case",
        "cases",
        "way",
        "ways",
        "method",
        "approach",
        "formula",
        "expression",
        "left",
        "right",
        "side",
        "sides",
        "next",
        "last",
        "next",
        "form",
        "term",
        "terms",
        "given",
        "fact",
        "entire",
        "whole",
        "following",
        "original",
        "definition",
        "step",
        "steps",
        "result",
        "results",
        "point",
        "points",
        "order",
        "general",
        "actual",
        "correct",
        "only",
        "final",
        "idea",
        "thing",
        "things",
        "time",
        "part",
        "parts",
        "sign",
        "exact",
        "standard",
        "properties",
        "property",
        "rule",
        "possible",
        "solution",
        "solutions",
        "calculation",
        "variable",
        "variables",
        "condition",
        "conditions",
        "situation",
        "assumption",
        "possibility",
        "reason",
        "here",
        "need",
        "real",
    ]
)


def tokens_in(line: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return what a line mentions, and what it gives a value to.

    >>> mentioned, made = tokens_in("So the slope of BC is 504/2 = 252.")
    >>> sorted(mentioned), sorted(made)
    (['252', '504', 'BC', 'noun slope'], ['252', 'noun slope'])
    """
    line = line[:_READ]
    values = values_in(line)
    mentioned = distinctive(value for value, _ in values)
    made = distinctive(value for value, role in values if role == "computed" or (role == "made" and value[0].isalpha()))
    made |= {match["symbol"] for match in _LOCATED.finditer(line)} & mentioned
    nouns = {match["noun"].casefold() for match in _NAMED.finditer(line)} - _COMMON
    defined = {match["noun"].casefold() for match in _DEFINED.finditer(line)} - _COMMON
    formulas = {text for found in (_RUN, _GROUP) for match in found.finditer(line) if (text := _plain(match.group()))}
    return (
        frozenset(mentioned | formulas | {f"noun {noun}" for noun in nouns | defined}),
        frozenset(made | {f"noun {noun}" for noun in defined}),
    )


def results_in(line: str) -> frozenset[str]:
    """Return the formulas that a line comes to: those after an equals sign.

    >>> results_in("x^6 - 3 - (x^6 + x^5) = -x^5 - 3")
    frozenset({'x^5-3'})
    """
    _, sign, after = line[:_READ].partition("=")
    return (
        frozenset(text.lstrip("-") for match in _RUN.finditer(after) if (text := _plain(match.group())))
        if sign
        else frozenset()
    )


def formulas_in(line: str) -> frozenset[str]:
    """Return the formulas that a line mentions, and the terms of its sums."""
    found = {text for match in _RUN.finditer(line[:_READ]) if (text := _plain(match.group()))}
    return frozenset(text.lstrip("-") for text in found)


def _plain(formula: str) -> str | None:
    text = "".join(plain_powers(formula).split()).strip(".,$").replace("\u2212", "-")
    if text.count("(") != text.count(")"):
        text = text.strip("()")
    return (
        text if len(text) > 3 and re.search(r"[A-Za-z\u03b8\u03c0\u221a]", text) and not _PROSE.search(text) else None
    )


def plain_powers(text: str) -> str:
    """Write exponents in one way.

    >>> plain_powers("x\u00b2 - y^{10}")
    'x^2 - y^10'
    """
    return _BRACED.sub(r"^\1", text.translate(_POWERS))


def subjects_of(problem: str) -> frozenset[str]:
    """Return what a problem is about: its numbers, symbols and longer words.

    >>> sorted(subjects_of("What is the slope of $y = 3x$?"))
    ['3', 'slope', 'y']
    """
    words = {word.casefold() for word in re.findall(r"[A-Za-z]{5,}", problem)} - _COMMON
    signs = {value for value, _ in values_in(problem)} | set(re.findall(r"\d+", problem))
    return frozenset(words | signs)


class Mentions:
    """The tokens of a trace by line, counted from 0."""

    def __init__(self, problem: str, lines: Sequence[str]) -> None:
        self._lines = lines
        known = tokens_in(problem)
        squeezed = "".join(plain_powers(problem).split())
        self._known = known[0] | {f"noun {word}" for word in re.findall(r"[a-z]{4,}", problem.casefold())}
        self._problem = squeezed.replace("$", "")
        self._tokens = [tokens_in(line) for line in lines]
        self._first: dict[str, int] = {}
        self._made: defaultdict[str, list[int]] = defaultdict(list)
        for number, (mentioned, made) in enumerate(self._tokens):
            for token in mentioned:
                self._first.setdefault(token, number)
            for token in made:
                self._made[token].append(number)

    def needed(self, start: int, stop: int, *, opening: int) -> int:
        """Return the last line before ``start`` that introduced what the lines up to ``stop`` mention, or -1.

        The lines are a second way to a result, so the problem's own symbols may get a new value in them. Formulas count
        only in the first ``opening`` lines, since later ones may have been derived again.
        """
        own: set[str] = set()
        last = -1
        for number in range(start, stop):
            mentioned, made = self._tokens[number]
            for token in mentioned - own:
                formula = len(token) > 3 and not token.startswith("noun ") and not token.isalnum()
                late = number - start >= opening
                if formula and ((late and not _COORDINATES.fullmatch(token)) or token.strip("()") in self._problem):
                    continue
                if (
                    token in made
                    and (late or not token.startswith("noun "))
                    and not self._restates(token, number, start)
                ):
                    continue
                last = max(last, self._source(token, start))
            own |= made
        return last

    def _restates(self, symbol: str, number: int, start: int) -> bool:
        """Tell whether a line repeats the equation of a symbol that the text before line ``start`` introduced.

        "Perhaps consider that Q = (a^2 - 81)/2" needs the line that says what Q is; "Let Q = …" does not.
        """
        introduced = symbol.isalpha() and len(symbol) == 1 and symbol not in self._known
        return (
            introduced and self._first.get(symbol, start) < start and _SUPPOSED.search(self._lines[number]) is not None
        )

    def _source(self, token: str, before: int) -> int:
        if token in self._known:
            return -1
        first = self._first.get(token, before)
        first = first if first < before else -1
        places = self._made.get(token, [])
        index = bisect_left(places, before) - 1
        return max(first, places[index] if index >= 0 else -1)
