r"""Cut text into units: sentences, and whole formulas, list items, tables and blocks of code.

Invariants:

- The units together are the text, without blank lines, rules (``---``) and trailing whitespace.
- A displayed equation is one unit with the sentence that announces it (``We get:`` and the line ``x = 4`` after it).
- Nothing inside ``$…$``, ``\(…\)``, ``\[…\]``, brackets, ``\begin{…}`` or a code block ends a unit.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_RULE = re.compile(r"\s*(?:[-*_=]\s*){3,}")
_FENCE = re.compile(r"\s*(```|~~~)")
_LIST = re.compile(r"\s*(?:[-*\u2022+]\s+|\(?\d{1,3}[.)]\s+|\(?[a-z]\)\s+|#{1,6}\s|\||>)")
_OPENED = re.compile(r"\\\[|\\\]|\$\$|\\begin\{(?P<begin>\w+\*?)\}|\\end\{(?P<end>\w+\*?)\}")
_END = re.compile(
    r"(?<![.?!\u2026])(?P<stop>[.?!\u2026]+)(?P<close>[)\"'\u2019\u201d\]*]*)\s+(?=[\"'(\u201c*]*(?:[A-Z]|\\\(|\$|\d+\s*[-+*/=]|[a-z]\s*=))"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|resp|approx|Fig|fig|Eq|eq|Eqs|No|no|Dr|Mr|Mrs|Ms|St|Prof|Sec|Ch|al|ca|sq|ft|in|p|pp)"
    r"|(?<![\w)])[A-Za-z]|^\s*\W*\d{1,3})$"
)
_ANNOUNCES = re.compile(r"^\W*\w\S*\s+\S+(?:\s[^\n]*)?:$")
"""A sentence of at least two words that ends in a colon."""
_STATES = re.compile(r"[=<>\u2264\u2265\u2248\u2261\u2192]|\\(?:le|ge|approx|equiv|begin)|^\s*(?:\\\[|\$\$|\[)")
_SEARCHES = re.compile(r"\d+ [-+*/] \d+ = (?:x$|\d+ left )")
"""A step of a search, which opens a part of its own."""
_STARTER = re.compile(
    r"(?:Therefore|Let|So|But|Then|Now|Since|The|This|That|These|If|Wait|And|We|It|For|Next|First|Similarly|Alternatively|"
    r"Hence|Thus|Which|Also|To|In|Because|However|Okay|Hmm|Yes|My|I'll|There)\b"
)
_ROW = re.compile(r"\s*[\[(|].*[\])|]\s*")
_WORDS = re.compile(r"[A-Za-z]{3,}|\b(?:[Ii]t|[Ii]s|[Ss]o|[Ww]e|[Bb]e|[Oo]f|[Tt]o|[Ii]f|[Aa]s)\b")
_FUNCTIONS = re.compile(
    r"\\[A-Za-z]+|\b(?:sin|cos|tan|log|sqrt|mod|lim|max|min|gcd|lcm|arctan|arcsin|arccos|exp|deg|det|and|or|for|cot|sec)\b"
)
_RELATION = re.compile(r"[=<>\u2264\u2265\u2248\u2261\u2192]|\\(?:le|ge|approx|equiv|frac|boxed)|[-+*/^]")


class Unit(NamedTuple):
    """A unit, and the line of the text that it starts in, counted from 0."""

    text: str
    line: int


def units_of(text: str) -> list[Unit]:
    r"""Cut a text into units.

    >>> [unit.text for unit in units_of("So f(x) = 1.5, i.e. less. Is it?\n\nWe get:\n\nx = 4\n\nFine.")]
    ['So f(x) = 1.5, i.e. less.', 'Is it?', 'We get:\nx = 4', 'Fine.']
    """
    found: list[Unit] = []
    for block in _blocks(text.splitlines()):
        last = found[-1] if found else None
        if last and _ANNOUNCES.search(last.text) and _is_displayed(block.text):
            found[-1] = Unit(f"{last.text}\n{block.text}", last.line)
        elif last and _ROW.fullmatch(block.text) and _ROW.fullmatch(last.text.rpartition("\n")[2]):
            found[-1] = Unit(f"{last.text}\n{block.text}", last.line)  # rows of a matrix
        else:
            found += _sentences(block)
    return found


def is_formula(text: str) -> bool:
    """Tell whether a line is a displayed formula: signs of mathematics, and hardly a word.

    >>> is_formula("(2x + 3)^2 = 9"), is_formula("So x = 3."), is_formula("sin x + 2 = 0")
    (True, False, True)
    """
    if text.lstrip().startswith(("\\[", "$$", "\\begin", "```")):
        return True
    return bool(_RELATION.search(text)) and not _WORDS.search(_FUNCTIONS.sub(" ", text))


def _is_displayed(text: str) -> bool:
    """Tell whether a line is a formula that the sentence before it may announce: it states something."""
    return is_formula(text) and _STATES.search(text) is not None and not _SEARCHES.match(text)


def _blocks(lines: Sequence[str]) -> Iterator[Unit]:
    """Yield lines, and blocks of code and displayed mathematics as a whole."""
    number = 0
    while number < len(lines):
        start = number
        end = _fenced(lines, start) if _FENCE.match(lines[start]) else _displayed(lines, start)
        number = end
        content = [line.rstrip() for line in lines[start:end] if line.strip() and not _RULE.fullmatch(line)]
        if content:
            yield Unit("\n".join(content), start)


def _fenced(lines: Sequence[str], start: int) -> int:
    """Return the line after a block of code; a block that is not closed is one line."""
    return next((index + 1 for index in range(start + 1, len(lines)) if _FENCE.match(lines[index])), start + 1)


def _displayed(lines: Sequence[str], start: int) -> int:
    r"""Return the line after the display that opens in line ``start``; an unclosed one ends where it starts."""
    depth = 0
    dollars = False
    for index in range(start, min(start + _LONGEST_DISPLAY, len(lines))):
        for match in _OPENED.finditer(lines[index]):
            sign = match.group()
            if sign == "$$":
                dollars = not dollars
            else:
                depth += 1 if sign == "\\[" or match["begin"] else -1
        if depth <= 0 and not dollars:
            return index + 1
    return start + 1


_SHORT = 12
"""Words of a line that announces what follows, and stays whole: "Nothing found. Next, two are left:"."""

_LONGEST_DISPLAY = 60
"""Lines of a displayed formula, at most."""


def _sentences(block: Unit) -> Iterator[Unit]:
    text = block.text
    announces = text.endswith(":") and len(text.split()) <= _SHORT
    if "\n" in text or _LIST.match(text) or is_formula(text) or announces:
        yield block
        return
    start = 0
    for match in _END.finditer(text):
        before = text[start : match.start("stop")]
        known = _ABBREVIATION.search(before[-12:])
        if match["stop"] == "." and known and not (len(known.group()) == 1 and _STARTER.match(text, match.end())):
            continue
        if _inside_formula(before):
            continue
        yield Unit(text[start : match.end()].strip(), block.line)
        start = match.end()
    if rest := text[start:].strip():
        yield Unit(rest if start else text[start:].rstrip(), block.line)


def _inside_formula(text: str) -> bool:
    """Tell whether a formula or bracket that was opened in ``text`` is still open."""
    if text.count("(") > text.count(")") or text.count("\\(") > text.count("\\)"):
        return True
    return text.replace("\\$", "").count("$") % 2 == 1 and not re.search(r"\$\d[\d,.]*\s", text)
