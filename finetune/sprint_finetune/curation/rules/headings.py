"""Headings of parallel parts: ``Case 1: …``, ``For x = -4: …``, ``(b) …``, ``Try n = 9.``, ``**Multiples of 6**``.

Two headings belong to one series if they differ only in their subject: a number, a set, a name, one word.

Parts may have *names*. ``Now A``, ``A:`` or ``Now A = 3 * 7 + 2`` opens a part that ends by stating A (``so A = 23``,
or a line that is just ``A = 23``). The first step of a search opens a part too: it states what is left for which goal
(``25 - 7 = 18 left 18 3 for 46``), or that it leads nowhere (``3 - 3 = x``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .markers import COMPUTES, OPENER

_LONGEST = 8  # words of a heading
_READ = 400  # characters; headings are shorter, and some patterns scan the whole text repeatedly
_MARKUP = re.compile(r"^[#\s]*|\*\*|__|^[-*\u2022]\s+(?=\S)")
_BULLET = re.compile(r"\s*[-*\u2022]\s+(?=\S)(?!\d+\s*[-+*/=])")
_LETTER = re.compile(r"\s*\(?(?P<label>[a-h]|i{1,3}|iv|vi{0,3})\)\s")
_NOUNS = "case|subcase|method|approach|option|part|scenario|possibility|pattern|situation|way"
NAMED = frozenset({"named", "opening"})
"""Kinds of series whose members have names. Even a single member is a subtask."""

_VARIED = frozenset({"title", "condition"})
"""Kinds of headings of which one word may differ within a series."""

METHODS = frozenset({"method", "approach", "option", "way"})
"""Kinds of series whose members lead to the same result."""

_LABELLED = re.compile(rf"(?P<noun>{_NOUNS})\s+(?P<label>[\w+*/-]+)(?=$|[\s.,:)])", re.IGNORECASE)
_ORDINAL = re.compile(
    rf"(?:the\s+)?(?P<label>first|second|third|fourth|fifth|sixth)(?:ly)?"
    rf"(?:,|\s+(?P<noun>{_NOUNS})\b|(?P<short>(?:\s+[a-z]+){{1,2}})[.:]$)",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"(?:let's |let us |let me )?(?P<word>if|when|suppose|assume)\b(?!\s+(?:what|how|whether|i|we)\b)"
    r"[^.:?]*?(?=[,:.?]|\bthen\b)",
    re.IGNORECASE,
)
_TRIAL = re.compile(
    r"(?:(?:let me|let's|let us|now|next)\s+)?(?P<word>try|trying|test|testing|what about|how about|look at|consider)"
    r"\s+(?P<label>[^:.,?]{1,40})(?=[:.,?]|$)",
    re.IGNORECASE,
)
_NAMED = re.compile(r"(?P<now>[Nn]ow )?(?P<label>[A-Z])(?(now)(?: = (?=[\d(\[A-Z])[^=]*[^=.,:;!?\s])?|:)")
_SETTLES = re.compile(r"(?P<so>so )?(?P<label>[A-Z]) = (?(so)|\d+$)")
_HEADS = re.compile(r"^[Nn]ow\s+(?=\S)|:$")
_OPENING = re.compile(r"(?P<label>\d+ [-+*/] \d+) = (?:\d+ left(?: \d+)+ for \d+|x)")
_COLON = re.compile(r"(?P<head>[^:]{1,60}):(?=\s|$)")
_TITLE = re.compile(r"\s*(?:#+\s+|\*\*)(?P<head>[^*]{1,60}?)[.:]?(?:\*\*)?\s*$")
# A label is a number, a set, a formula, a name in capitals, or something in brackets.
_LABEL = re.compile(
    r"\{[^}]*\}|\([^)]*\)|\$[^$]*\$|[-+\u2212|]?\d[\w.+*/^%|-]*|(?<!\w)[A-Z]{2,}(?!\w)|(?<![\w'])[A-HJ-Z](?!\w)"
)
_SIGNS = re.compile(r"[^\w#'=<>\u2264\u2265\u2260\u2261]+")
_OPERATION = re.compile(
    r"\W*(?:add|apply|bring|cancel|collect|combin|complet|comput|calculat|convert|distribut|divid|eliminat|evaluat|expand|"
    r"factor|find|isolat|mov|multipl|plug|put|rearrang|reduc|replac|rewrit|set|simplif|solv|squar|substitut|subtract|tak|"
    r"group|cross|start|next|then|another|continu|repeat|proceed|us|go|get|not|consider|note|recall|verify|again|which)(?:e|y|ing|ging|ting|ying|ue|uing)?\b",
    re.IGNORECASE,
)
"""Starts a title that is an operation on what was just written: "Subtract 16: …", "Divide by 4: …"."""
_NOT_A_HEADING = frozenset(
    {
        "so",
        "that",
        "that's",
        "thats",
        "thus",
        "then",
        "this",
        "there",
        "therefore",
        "hence",
        "it",
        "it's",
        "its",
        "and",
        "but",
        "yes",
        "no",
        "which",
        "adding",
        "total",
        "check",
        "because",
        "since",
        "here",
        "they",
        "these",
        "now",
        "step",
        "also",
        "or",
        "wait",
        "hmm",
        "answer",
        "note",
        "together",
        "finally",
        "again",
        "good",
        "great",
        "let",
        "let's",
        "lets",
    }
)


@dataclass(frozen=True, slots=True)
class Heading:
    """The part that a line opens: ``kind`` and ``words`` identify the series, ``label`` the member.

    A ``strong`` heading by itself shows that there are several cases, so short checks may come between two of them.
    """

    kind: str
    words: tuple[str, ...]
    label: str
    strong: bool


def heading_of(line: str) -> Heading | None:
    """Read a line as a heading, or return None if it is not one.

    >>> heading_of("**Case 2: the last digit is 0.**")
    Heading(kind='case', words=(), label='2', strong=True)
    >>> heading_of("For x = -4: |-4 - 2| = 6.").words, heading_of("So x = -4."), heading_of("- Sum 2: one.").label
    (('for', 'x', '=', '#'), None, '2')
    """
    line = line[:_READ]
    bullet = _BULLET.match(line) is not None and not line.lstrip().startswith("**")
    if match := _LETTER.match(line):
        return Heading("letter", (), match["label"], strong=True)
    if match := _NAMED.fullmatch(line) or _OPENING.fullmatch(line):
        return Heading("named" if match.re is _NAMED else "opening", (), match["label"], strong=True)
    plain = OPENER.sub("", _MARKUP.sub("", line).strip(), count=1)
    if match := _LABELLED.match(plain):
        return Heading(match["noun"].casefold(), (), match["label"].casefold(), strong=True)
    if match := _ORDINAL.match(plain):
        noun = match["noun"] or (match["short"] or "").strip()
        return Heading("ordinal", tuple(noun.casefold().split()), match["label"].casefold(), strong=True)
    if (match := _CONDITION.match(plain)) and match.group().strip().casefold() != match["word"].casefold():
        # Conditions of one series are alike but for a number, a sign or one word: "If n is even", "If n is odd".
        return Heading("condition", _template(match.group())[0], match.group().casefold(), strong=False)
    if match := _TRIAL.match(plain):
        word = match["word"].casefold()
        words, label = _template(match["label"])
        return Heading("trial", (word, *words[:-1]), label, strong=word in ("look at", "consider"))
    title = _TITLE.match(line) if "**" in line or line.startswith("#") else None
    return _titled(title["head"], strong=True) if title else _before_colon(plain, bullet=bullet)


def headings_of(lines: Sequence[str]) -> list[Heading | None]:
    """Read each line as a heading. A part has a name only if a later line says what the name is equal to.

    >>> [heading and heading.label for heading in headings_of(["Now A = 2 * 3", "so A = 6", "Now B = 6 + 1"])]
    ['A', None, None]
    """
    headings = [heading_of(line) for line in lines]
    settled: set[str] = set()
    for index in reversed(range(len(lines))):
        heading = headings[index]
        if match := _SETTLES.match(lines[index]):
            settled.add(match["label"])
        elif heading and heading.kind == "named":
            if heading.label not in settled:
                headings[index] = _before_colon(lines[index], bullet=False)
            settled.discard(heading.label)
    return headings


def inputs_of(prompt: str) -> str:
    """Return the inputs in the prompt of a named part.

    Other steps may use these, but not the part's value, which is not known yet.

    >>> inputs_of("A = 3 * 4 + 1"), inputs_of("25 - 7")
    (' 3 * 4 + 1', '25 - 7')
    """
    return prompt.rpartition("=")[2]


def _before_colon(plain: str, *, bullet: bool) -> Heading | None:
    match = _COLON.match(plain)
    return _titled(match["head"], strong=bullet) if match else None


def _titled(head: str, *, strong: bool) -> Heading | None:
    words, label = _template(head)
    if COMPUTES.search(head) and "=" not in head:
        return None
    if not 0 < len(words) <= _LONGEST or words[0] in _NOT_A_HEADING or "?" in head or _OPERATION.match(head):
        return None
    return Heading("title", words, label, strong)


def heading_task(heading: str) -> str:
    """Return what the heading of a named part asks for: everything but the words and signs that mark it as a heading.

    >>> heading_task("Now A = 347 * 8 units"), heading_task("A:")
    ('A = 347 * 8 units', 'A')
    """
    return _HEADS.sub("", heading)


def shape_of_line(line: str) -> tuple[str, ...]:
    """Return the words of a line with ``#`` for numbers and names. Lines with the same pattern have equal shapes.

    >>> shape_of_line("So k = 7.") == shape_of_line("So k = 13.")
    True
    """
    return _template(line[:_READ])[0]


def _template(head: str) -> tuple[tuple[str, ...], str]:
    """Return the words of a heading with ``#`` for anything that looks like a label, and the labels."""
    labels: list[str] = [found.group() for found in _LABEL.finditer(head)]
    text = _SIGNS.sub(" ", _LABEL.sub(" # ", head)).casefold()
    words: list[str] = []
    for word in text.split():
        if not (word == "#" and words and words[-1] == "#"):
            words.append(word)
    return tuple(words), " ".join(labels) or " ".join(words)


def series_keys(heading: Heading) -> list[tuple[str, tuple[str, ...], int]]:
    """Return the keys of the groups that a heading belongs to.

    Headings of one series share a group, either by all words or by all words but one.

    >>> len(series_keys(heading_of("Case 2:"))), len(series_keys(heading_of("The minute hand: 6 degrees.")))
    (1, 4)
    """
    keys = [(heading.kind, heading.words, -1)]
    if heading.kind in _VARIED and len(heading.words) > 1:
        places = range(len(heading.words))
        keys += [(heading.kind, (*heading.words[:place], *heading.words[place + 1 :]), place) for place in places]
    return keys


def same_series(a: Heading, b: Heading) -> bool:
    """Tell whether two headings name members of one series.

    >>> one, other = heading_of("The minute hand: 6 degrees."), heading_of("The hour hand: half a degree.")
    >>> same_series(one, other), same_series(one, one)
    (True, False)
    """
    if a.kind != b.kind or (a.label == b.label and a.words == b.words):
        return False
    if a.words == b.words:
        return a.words != ("#",) or a.label[:1].isdigit() == b.label[:1].isdigit()  # "8:" and "RHS:" are no series
    # A single differing word may name the member: "Both red", "Both blue".
    if a.kind not in _VARIED or len(a.words) != len(b.words) or len(a.words) < 2:
        return False
    differing = [pair for pair in zip(a.words, b.words, strict=True) if pair[0] != pair[1]]
    variables = any(len(word) == 1 and word.isalpha() for pair in differing for word in pair)
    return (
        len(differing) == 1
        and not (a.kind == "condition" and variables)
        and ("#" not in differing[0] or (a.strong and b.strong))
    )
