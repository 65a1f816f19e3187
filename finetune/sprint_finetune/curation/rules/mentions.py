"""Where each symbol, number, named quantity and formula of a trace is mentioned first, and where it gets a value.

A passage needs the lines that introduced what it mentions: ``c/a`` from the line that derived it, "the slope" from the
line that says "the slope is …". What the problem mentions is known from the beginning. Small numbers are too common.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

from .facts import distinctive, equations, values_in

_OPENS = 2
"""A way that starts from a solution states it in one of so many first lines."""

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
_PROSE = re.compile(
    r"[A-Za-z]{4,}(?:-[A-Za-z]+)*|[a-z]+-[a-z]+|"
    r"(?<![A-Za-z])(?:is|at|to|of|be|as|by|in|on|or|an|so|if|it|and|are|the)(?![A-Za-z])"
)
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
_ARTICLES = frozenset({"the", "its", "our", "this", "that", "these", "those"})
_NEGATIVE = re.compile(r"(?:(?<=[a-z,=:(\[{] )|(?<=[(\[{=]))[-\u2212]\d+(?:\.\d+)?(?!\w)")
_PREMISE = re.compile(
    r"\b(?:since|because|given|know|knowing|if|when|with|using|from|already|earlier|recall|remember|as)\b",
    re.IGNORECASE,
)
"""Occurs in lines that may state a number as known."""
_EXAMPLE = re.compile(r"\((?:once|e\.g\.|say|like|such as|for example)\b[^()]*\)", re.IGNORECASE)
_LIST = re.compile(r"(?:\b[A-Z],\s+(?:and )?){2,}[A-Z]\b")
"""A list of names, which are given where it is written."""
_DIVIDEND = re.compile(r"(?<![\w.])(?P<value>\d+(?:\.\d+)?)\s*/")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """
    actual again also another answer approach around assumption back because becomes been being between
    calculation case cases checks condition conditions correct could definition different divide divided does
    doesn entire equal equals equation equations exact exactly expression fact final first following form formed
    formula from general given gives have here idea into last left make makes matches means mentioned method might
    more most must need next number numbers once only order original other part parts plus point points
    possibility possible problem properties property question real reason result results right rule same second
    seems sense should side sides sign situation solution solutions something standard start step steps term terms
    than that then there thing things think this through time together using value values variable variables way
    ways when where which whole with would
    """,
    )
)
"""Words after "the" that name no quantity."""


def tokens_in(line: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return what a line mentions, and what it gives a value to.

    >>> mentioned, made = tokens_in("So the slope of BC is 504/2 = 252.")
    >>> sorted(mentioned), sorted(made)
    (['252', '504', 'BC', 'noun slope'], ['252', 'noun slope'])
    """
    line = _EXAMPLE.sub("", line[:_READ])
    values = values_in(line)
    mentioned = distinctive(value for value, _ in values)
    premise = _PREMISE.search(line) is not None
    made = distinctive(
        value
        for value, role in values
        if role == "computed" or (role == "made" and (value[0].isalpha() or not premise))
    )
    made -= {match["value"] for match in _DIVIDEND.finditer(line)}
    made |= {name for match in _LIST.finditer(line) for name in re.findall("[A-Z]", match.group())}
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
    names = re.search(r"[A-Za-z\u03b8\u03c0\u221a]", text)
    return text if len(text) > 3 and names and not _PROSE.search(text) else None


def _small(line: str, role: str) -> set[str]:
    """Return the numbers of one digit in a line that are used, or that are computed."""
    return {value for value, found in values_in(line) if found == role and len(value) == 1 and value.isdigit()}


def _negatives(line: str) -> set[str]:
    """Return the negative numbers of a line, which are rare enough to identify their origin.

    >>> _negatives("From -3 to 7, and 5 - 2.")
    {'-3'}
    """
    return {"".join(match.group().split()) for match in _NEGATIVE.finditer(line)}


def _letters(problem: str) -> set[str]:
    """Return the single letters of a problem, such as the x of "4x^3"."""
    return {*re.findall(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])", problem)} - {"a", "A", "I"}


def _after_sign(line: str) -> str:
    """Return what a line comes to: its text after an equals sign or a colon, without spaces."""
    return "".join(plain_powers(line[:_READ].partition(":" if ":" in line[:40] else "=")[2]).split())


def _definite(line: str) -> Iterator[tuple[str, bool]]:
    """Yield the words of a line, and whether each follows "the", directly or after one more word.

    >>> list(_definite("The radical part of a part"))[2:]
    [('part', True), ('of', False), ('a', False), ('part', False)]
    """
    words = re.findall(r"[a-z]+", line.casefold())
    for place, word in enumerate(words):
        yield word, not _ARTICLES.isdisjoint(words[max(0, place - 2) : place])


def plain_powers(text: str) -> str:
    """Write exponents in one way.

    >>> plain_powers("x\u00b2 - y^{10}")
    'x^2 - y^10'
    """
    return _BRACED.sub(r"^\1", text.translate(_POWERS))


def subjects_of(problem: str) -> frozenset[str]:
    """Return what a problem is about: its numbers, symbols and longer words.

    >>> sorted(subjects_of("What is the slope of $y = 3x$?"))
    ['3', 'slope', 'x', 'y']
    """
    words = {word.casefold() for word in re.findall(r"[A-Za-z]{5,}", problem)} - _COMMON
    signs = {value for value, _ in values_in(problem)}.union(re.findall(r"\d+", problem), _letters(problem))
    return frozenset(words | signs)


class Mentions:
    """The tokens of a trace by line, counted from 0."""

    def __init__(self, problem: str, lines: Sequence[str]) -> None:
        self._lines = lines
        known = tokens_in(problem)
        squeezed = "".join(plain_powers(problem).split())
        self._known = known[0].union(
            _letters(problem), (f"noun {word}" for word in re.findall(r"[a-z]{4,}", problem.casefold()))
        )
        self._problem = squeezed.replace("$", "")
        self._tokens = [tokens_in(line) for line in lines]
        self._first: dict[str, int] = {}
        self._made: defaultdict[str, list[int]] = defaultdict(list)
        self._results: defaultdict[str, list[int]] = defaultdict(list)
        digits = {*re.findall(r"\d", f"{problem} {lines[0] if lines else ''}"), "0", "1"}
        for number, line in enumerate(lines):
            read = line[:_READ]
            results = {*equations([read]), *_negatives(read), *_small(read, "computed")}
            for result in results - _negatives(problem) - digits:
                self._results[result].append(number)
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
        introduced: dict[str, bool] = {}  # words, and whether each was mentioned without "the" at first
        last = -1
        for number in range(start, stop):
            mentioned, made = self._tokens[number]
            derived = _after_sign(self._lines[number]) if number > start else ""
            for word, definite in _definite(self._lines[number][:_READ]):
                introduced.setdefault(word, not definite)
            for token in mentioned - own:
                formula = len(token) > 3 and not token.startswith("noun ") and not token.isalnum()
                late = number - start >= opening or token in derived
                if formula and ((late and not _COORDINATES.fullmatch(token)) or token.strip("()") in self._problem):
                    continue
                if (
                    token in made
                    and (late or not token.startswith("noun "))
                    and not self._restates(token, number, start)
                ):
                    continue
                if not (token.startswith("noun ") and introduced.get(token[5:])):
                    last = max(last, self._source(token, start))
            if opening and number < start + _OPENS:
                line = self._lines[number][:_READ]
                found = (*equations([line]), *_negatives(line), *_small(line, "used") - _small(line, "computed"))
                last = max(last, *(self._stated(result, start) for result in found), -1)
            own |= made
        return last

    def _stated(self, result: str, before: int) -> int:
        """Return the last line before another that has a result such as "x=3" or "-3", or -1."""
        places = self._results.get(result, [])
        index = bisect_left(places, before) - 1
        return places[index] if index >= 0 else -1

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
        if token.startswith("noun "):
            return first
        places = self._made.get(token, [])
        index = bisect_left(places, before) - 1
        return max(first, places[index] if index >= 0 else -1)
