"""Second ways to the same result: where they open, what they ask for, and what they start from.

A way opens with words that announce one ("Alternatively, …", "Another way to see it is …", "Let me verify this by
listing them"), or it starts over after a doubt ("Let me double-check. If there are 8 toppings, …"). A check that
repeats earlier calculations is not a second way.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .markers import COMPUTES, DOUBTS, LOOKS_BACK, POINTS_BACK, RECAPS, TRANSFORMS
from .mentions import plain_powers, tokens_in
from .tasks import task_of

_READ = 600
"""Characters of a line; some patterns scan the text repeatedly."""

_LATEST = 3
"""A check starts over within so many lines."""

FIRST_WAY = "Work out the answer step by step."
"""The task of the first way to the answer."""

_UPPER = ("I ", "I'")
_LONGEST_HINT = 30
"""Words of an opening that becomes part of a task."""

_ANOTHER_WAY = "Work out the answer in another way"

_NEW = 2
"""A check mentions so many numbers, symbols and formulas that did not occur before, at least."""

_VERIFY = r"(?:double[- ]?check|cross[- ]?check|verify|check|confirm|make sure|be sure|validate|test)"
_SMALL = (
    r"(?:(?:so|hmm+|but|and|ok|okay|now|wait|hold on|well|actually|also|maybe|perhaps|or|yet|still|"
    rf"just to (?:be (?:thorough|safe|certain|extra \w+)|{_VERIFY})|"
    rf"to (?:be (?:thorough|safe|certain)|{_VERIFY})(?: (?:this|that|it))?)\b[\s,:]*)*"
)
"""Small words before an announcement."""
_OTHER = (
    r"(?:(?:an?|one|the|yet|in|with|from|by|use|try)\s+)*(?:another|different|alternative|second|third|other)\s+"
    r"(?:way|method|approach|idea|angle|option|strategy|technique|perspective|route)\b"
)
_IS = r"(?:is|was|would be|could be|might be|may be|can be)\b"
_MAY = r"(?:is|was|would|could|might|may|can)\b"
_I = (
    r"(?:let me|let's|let us|i can|i could|i will|i'll|i might|i should|we can|we could|we might|can i|can we|"
    r"(?:maybe|perhaps) (?:i|we) (?:can|could|should))\b"
)
_CAN = r"(?:can|could|might|may|should|will)"

_ALTERNATIVELY = re.compile(rf"{_SMALL}alternatively\b[\s,:]*{_SMALL}", re.IGNORECASE)
_ANOTHER = re.compile(
    rf"{_SMALL}{_OTHER}(?:\s+(?:to|of|for)\s+(?:(?!{_MAY})[\w/'-]+\s*){{1,6}}?(?={_IS}|[:,.]))?"
    rf"[\s,:]*(?:{_IS}|involves\b)?[\s,:]*(?:(?:to|that|by)\b)?\s*",
    re.IGNORECASE,
)
_TRIES = re.compile(rf"{_SMALL}{_I}.{{0,60}}?(?<!\w){_OTHER}[\s,:]*", re.IGNORECASE)
_ALSO = re.compile(rf"{_SMALL}(?:i|we|one) (?:can|could|might) also (?=\w)", re.IGNORECASE)
_BY = re.compile(
    rf"{_SMALL}{_I} (?:also |just |quickly |try to )*{_VERIFY}\b[^.:]{{0,40}}?(?=(?<!\w)(?:by(?! step)|using)\s+\w)",
    re.IGNORECASE,
)
_TO_VERIFY = re.compile(
    rf"[\s,]*(?:just )?\b(?:to|and) (?:also )?{_VERIFY}\b"
    r"(?:\s+(?:this|that|it|(?:the|my) (?:answer|result)))?\s*(?=[.:!]|$)",
    re.IGNORECASE,
)
_DOES = re.compile(rf"{_SMALL}{_I}", re.IGNORECASE)

_VAGUE = re.compile(
    r"\W*(?:\w+ ){0,3}?(?:solve|do|verify|check|confirm|see|approach|think(?: about)?|calculate|find|compute)?\s*"
    rf"(?:it|this|that|the (?:problem|answer|result))?\s*(?:in )?(?:{_OTHER})?\W*$|"
    r"\W*(?:let me|let's) (?:see|think)\b[^,:]{0,20}$",
    re.IGNORECASE,
)
"""Matches what says nothing about how."""
_AS = re.compile(
    rf"(?:(?:i|we|you) {_CAN} (?:also )?)?(?:think of|view|see|treat|do) (?:it|this|the problem) (?:as|by)\s+",
    re.IGNORECASE,
)
_I_CAN = re.compile(
    rf"(?:maybe |perhaps )?(?:i|we|you|one) {_CAN} (?:also |just )?|(?:let me|let's) (?:see,? )?", re.IGNORECASE
)
_NAMES_KIND = re.compile(
    r"(?:\w+,? ){0,3}?(?:it's|it is|this is) (?:really |just |like )?an? [\w -]+ (?:problem|question|situation)",
    re.IGNORECASE,
)
"""Starts an opening such as "maybe it's a ratio problem", which is about the problem."""
_BACKWARDS = re.compile(
    r"\b(?:that|this) (?:way|approach|method)\b|\bplug\w* (?:\w+ )?back|\bback in(?:to)?\b|\boriginal equation\b",
    re.IGNORECASE,
)
_SOLUTION = re.compile(
    r"\b(?:equations?|(?:the|this|that|these|those) (?:\w+ )?values?|solutions?|roots?|examples?|original|"
    r"plug\w*(?! in (?:an?|some)\b)|substitut\w*|satisf\w*|works?|holds?|other|others)\b|\b[a-zA-Z]\s*=",
    re.IGNORECASE,
)
"""Occurs in a doubt about a solution, which will be put into the problem."""
_STATES = re.compile(
    r"\b(?:divided by|times|multiplied by|plus|minus|squared|cubed|choose)\b|"
    r"\b(?:is|are|be|gives?|giving|gets?|equals?|makes?|leaves?|leaving|have|has|becomes?|that's)\s+"
    r"(?:\w+\s+){0,2}?[$\\(]*-?\d|"
    r"(?:\b\w{1,3}, ){2}|[+*/^\u00d7\u00f7\u221a]|\\(?:frac|sqrt|cdot|times)|\w\(\d+, ?\d+\)",
    re.IGNORECASE,
)
_RESTARTS = re.compile(
    r"(?!(?:so|then|therefore|thus|hence|yes|yeah|yep|no|but|because|which|and|that|this|it|they|these|those|right|"
    r"correct|okay|ok|oh|maybe|or|also|i think|i remember|i know|since|as)\b)",
    re.IGNORECASE,
)
"""Starts a line that does not continue the one before it."""
_SIGNS = re.compile(r"\d|\b[A-HJ-Z]\b")
_PIECE = re.compile(r"[\w.]+\s*[-+*/^\u00d7\u00f7]\s*[\w.]+|\b[A-Z]{2,}\b")


@dataclass(frozen=True, slots=True)
class Way:
    """A second way that opens in some line. ``asks`` is the first sentence that says how, without introductory words.

    ``says`` is the line of that sentence. A ``check`` starts over without announcing another way.
    """

    asks: str
    says: int
    check: bool = False


def ways_of(lines: Sequence[str]) -> list[Way | None]:
    """Find the second ways by the lines that they open in, counted from 0.

    >>> lines = ["It is 6.", "But let me double-check.", "Let's list all pairs: AB, AC.", "Another way: halve 12."]
    >>> [way and way.asks for way in ways_of(lines)]
    [None, "Let's list all pairs: AB, AC.", None, 'halve 12.']
    """
    ways: list[Way | None] = [None] * len(lines)
    taken = 0  # the last line that belongs to the opening of a way
    for index, line in enumerate(lines):
        way = _way_at(index, lines) if index > taken else None
        if way is not None:
            ways[index], taken = way, way.says
        elif index > taken and _may_check(line):
            start = _start_over(index, lines)
            if start is not None:
                ways[index], taken = Way(lines[start].partition("\n")[0], start, check=True), start
    return ways


def announced(line: str) -> str | None:
    """Return what is left of a line that announces a second way, without the announcing words, or None.

    >>> announced("Another way to think about it is that each pair is counted twice.")
    'each pair is counted twice.'
    >>> announced("I could also use long division to double-check."), announced("So 4.")
    ('use long division.', None)
    """
    line = line[:_READ].strip()
    first = line.partition("\n")[0]
    if match := _ALTERNATIVELY.match(line):
        rest = line[match.end() :]
        other = _ANOTHER.match(rest) or _TRIES.match(rest)
        return without_purpose(rest[other.end() :] if other else rest)
    for pattern in (_ANOTHER, _TRIES, _ALSO, _BY):
        if match := pattern.match(line):
            return without_purpose(line[match.end() :])
    if _DOES.match(first) and (match := _TO_VERIFY.search(first)):
        asks = first[: match.start()] + first[match.end() :]
        return None if _BACKWARDS.search(asks) else asks
    return None


def without_purpose(line: str) -> str:
    """Return a line without words such as "to verify", which announce a comparison but make none.

    >>> without_purpose("Let me try that approach to confirm.")
    'Let me try that approach.'
    """
    return _TO_VERIFY.sub("", line)


def starts_afresh(way: Way, subjects: frozenset[str]) -> bool:
    """Tell whether the opening of a way speaks about the problem, not about what was written just before.

    ``subjects`` are the numbers, symbols and words of the problem.
    """
    asks = way.asks.strip()
    if _NAMES_KIND.match(asks):
        return True
    if RECAPS.search(asks) or LOOKS_BACK.search(asks) or _BACKWARDS.search(asks):
        return False
    transforms = TRANSFORMS.match(asks) is not None and subjects.isdisjoint(re.findall(r"[A-Za-z]+|\d+", asks))
    return not transforms and POINTS_BACK.match(asks) is None


def task_of_way(way: Way) -> str:
    """Return the task of a second way if none of its first lines sets one.

    >>> task_of_way(Way("it's a ratio problem.", 0)), task_of_way(Way("1500 to 2500 is 5/3 = 1.67.", 0))
    ("Work out the answer in another way: it's a ratio problem.", 'Work out the answer in another way.')
    """
    hint = _I_CAN.sub("", way.asks.strip())
    tells = 2 < len(hint.split()) <= _LONGEST_HINT and not COMPUTES.search(hint) and not hint.endswith((":", "?"))
    if not tells:
        return f"{_ANOTHER_WAY}."
    return f"{_ANOTHER_WAY}: {hint if hint.startswith(_UPPER) else hint[:1].lower() + hint[1:]}"


def computes(line: str) -> bool:
    """Tell whether a line works something out, in signs or in words.

    >>> computes("C(4,2) is 6."), computes("So 12 divided by 3."), computes("That seems right.")
    (True, True, False)
    """
    return COMPUTES.search(line) is not None or _STATES.search(line) is not None


def _way_at(index: int, lines: Sequence[str]) -> Way | None:
    """Read the way that a line announces, or the next line if this one only wants to check something."""
    for place in range(index, min(index + 2, len(lines))):
        asks = announced(lines[place])
        if asks is not None:
            return _spelled_out(asks, place, lines)
        if not _may_check(lines[place]):
            return None
    return None


def _may_check(line: str) -> bool:
    return DOUBTS.match(line.strip()) is not None and not RECAPS.search(line) and not _SOLUTION.search(line)


def _spelled_out(asks: str, index: int, lines: Sequence[str]) -> Way:
    """Take the next line for the opening if the announcement does not say how."""
    while _VAGUE.match(asks) and index + 1 < len(lines):
        index += 1
        asks = lines[index]
    return Way(_AS.sub("", asks.partition("\n")[0]), index)


def _start_over(index: int, lines: Sequence[str]) -> int | None:
    """Return the line in which a check starts over, after the line that doubts."""
    for start in range(index + 1, min(index + 1 + _LATEST, len(lines))):
        line = lines[start].strip()
        if RECAPS.search(line) or LOOKS_BACK.search(line) or announced(line) is not None:
            return None
        if DOUBTS.match(line):
            continue
        return start if _RESTARTS.match(line) and (task_of(line) is not None or _SIGNS.search(line)) else None
    return None


def is_new(text: Sequence[str], *, known: Callable[[str], bool]) -> bool:
    """Tell whether a check works with something that was not ``known`` before it, so that it repeats no calculation.

    >>> known = {"10", "3", "30", "10*3"}.__contains__
    >>> is_new(["5 * 12 = 60", "60 / 2 = 30"], known=known), is_new(["10 * 3 = 30."], known=known)
    (True, False)
    """
    found = frozenset[str]().union(*map(pieces_of, text))
    new = [piece for piece in found if not known(piece)]
    return len(new) >= _NEW and 3 * len(new) >= len(found)


@lru_cache(maxsize=4096)
def pieces_of(line: str) -> frozenset[str]:
    """Return the numbers, symbols, formulas and calculations of a line."""
    mentioned = {token for token in tokens_in(line)[0] if not token.startswith("noun ")}
    calculations = _PIECE.findall(plain_powers(line[:_READ]))
    return frozenset(mentioned | {"".join(found.split()) for found in calculations})
