r"""The structure of an answer: words, lists, tuples, intervals, inequalities, equations, and everything else.

An answer is read once into a ``Form``. Forms of different kinds are equal only where mathematics has two ways to write
one thing: an interval and an inequality, a list and a tuple without its brackets.
"""

import re
from dataclasses import dataclass
from typing import Literal

from .notation import plain, split_at

RELATIONS = (r"\le", r"\ge", r"\ne", "<", ">", "=")

_RELATION = re.compile(r"\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])|\\in(?![a-z])|<|>|=|\\approx|\\equiv|\\mid|:")
_UNION = re.compile(r"\\cup(?![a-z])")
_WORD = re.compile(r"[^\W\d_]{2,}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_AND = re.compile(r",?\s+and\s+", re.IGNORECASE)
_OR = re.compile(r",?\s+or\s+|\\lor(?![a-z])|\\vee(?![a-z])", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
_BUILDER = re.compile(
    r"\\?\{\s*(?P<name>[A-Za-z]|\\theta)\s*(?:\\in(?![a-z])\s*\S+\s*)?(?:\\mid|:|\|)\s*(?P<body>.*?)\\?\}"
)
_SYMBOL = re.compile(r"(?:\\[A-Za-z]+|[A-Za-z])(?:_\{?\w+\}?)?'*(?:\s*\([A-Za-z, ]*\))?|[A-Z]{2,3}")
_EMPTY = ("no solution", "no solutions", "none", "no real solution", "no real solutions", "empty set", "the empty set")
_UNDEFINED = ("dne", "does not exist", "undefined", "not defined")
_REALS = ("all real numbers", "all reals", "real numbers", "all real number", "any real number", r"\mathbb{R}")
_EMPTY_SIGNS = (r"\emptyset", r"\varnothing", r"\{\}", r"\{ \}", "{}")

Kind = Literal["words", "list", "tuple", "set", "region", "equation", "scalar"]


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval by the texts of its ends; ``left`` and ``right`` tell whether they belong to it."""

    low: str
    high: str
    left: bool
    right: bool


@dataclass(frozen=True, slots=True)
class Form:
    """An answer's structure.

    ``items`` are the texts of its parts. A *region* is a union of ``intervals`` of the ``name``, minus the points in
    ``items``. An *equation* has its two sides as items. ``name`` is what an item is assigned to, such as ``x``.
    """

    kind: Kind
    text: str
    items: tuple[str, ...] = ()
    intervals: tuple[Interval, ...] = ()
    name: str = ""
    brackets: str = ""
    names: tuple[str, ...] = ()


def form_of(answer: str) -> Form:
    r"""Read the structure of an answer.

    >>> form_of("x < 2 or x > 3").kind, form_of("(1, 2)").kind, form_of("2, 1").kind, form_of("\\text{even}").kind
    ('region', 'tuple', 'list', 'words')
    """
    text = plain(answer)
    for read in (_constant, _words, _region, _set, _bracketed, _equation, _list, _plus_minus):
        if (form := read(text)) is not None:
            return form
    return Form("scalar", text, (text,))


def _constant(text: str) -> Form | None:
    lowered = text.casefold().strip()
    if lowered in _EMPTY or lowered in _EMPTY_SIGNS:
        return Form("set", text)
    if lowered in _UNDEFINED:
        return Form("words", "undefined")
    stripped = re.sub(r"^(?:[A-Za-z]\s*\\in(?![a-z])\s*|all\s+)?", "", text).strip()
    if text.casefold() in _REALS or stripped in _REALS or text in _REALS:
        return Form("region", text, intervals=(Interval(r"-\infty", r"\infty", left=False, right=False),))
    return None


def _words(text: str) -> Form | None:
    without = _COMMAND.sub(" ", text)
    if re.search(r"[\d=<>^\\]", text) or not _WORD.search(without) or re.search(r"[-+*/()\[\]{}]\s*\w", without):
        hyphenated = re.fullmatch(r"[A-Za-z' ]+(?:-[A-Za-z ]+)*", text)
        if not (hyphenated and len(text) > 3 and _WORD.search(text)):
            return None
    if re.fullmatch(r"[A-Z]{2,3}", text) or (
        len(text) < 4 and text.islower() and " " not in text and text not in _SMALL
    ):
        return None
    if _OR.search(text) or _AND.search(text) or "," in text:
        return None
    return Form("words", " ".join(_ARTICLE.sub("", text).casefold().split()))


_SMALL = frozenset({"yes", "no", "odd", "sat", "sun", "mon", "red", "two", "one", "six", "ten"})


def _region(text: str) -> Form | None:
    if match := _BUILDER.fullmatch(text):
        text = match["body"]
    intervals: list[Interval] = []
    holes: list[str] = []
    name = ""
    if _UNION.search(text) and not re.search(r"[<>]|\\le(?![a-z])|\\ge(?![a-z])", text):
        body = re.sub(r"^\s*\S+\s*\\in(?![a-z])\s*", "", text)
        for part in _UNION.split(body):
            found = _interval(part)
            if found is None:
                return None
            intervals.append(found)
        return Form("region", text, intervals=tuple(intervals))
    if member := re.fullmatch(r"(?P<name>\S+)\s*\\in(?![a-z])\s*(?P<rest>[(\[].*)", text):
        found = _interval(member["rest"])
        return found and Form("region", text, intervals=(found,), name=member["name"])
    if removed := re.fullmatch(
        r"(?:\S+\s*\\in(?![a-z])\s*)?\\mathbb\{R\}\s*(?:\\setminus|\\backslash|-)\s*\\?\{(?P<a>.*?)\\?\}", text
    ):
        whole = Interval(r"-\infty", r"\infty", left=False, right=False)
        return Form("region", text, tuple(part.strip() for part in split_at(removed["a"], ",")), (whole,))
    if not re.search(r"[<>]|\\(?:le|ge|ne)(?![a-z])", text):
        return None
    return _inequalities(text, holes, name)


def _inequalities(text: str, holes: list[str], name: str) -> Form | None:
    """Read inequalities of one variable: alternatives joined by "or", conditions by "and" or a comma."""
    intervals: list[Interval] = []
    for alternative in re.split(r"\\cup(?![a-z])", _OR.sub(r"\\cup ", text)):
        low, high, left, right = r"-\infty", r"\infty", False, False
        for part in split_at(_AND.sub(",", alternative).replace(r"\land", ","), ","):
            condition = _condition(part.strip())
            if condition is None or (name and condition[0] != name):
                return None
            name, relation, ends = condition
            if relation == r"\ne":
                holes.append(ends[0])
                continue
            below, above, closed_below, closed_above = ends[0], ends[1], relation[0] == "[", relation[1] == "]"
            if below:
                low, left = below, closed_below
            if above:
                high, right = above, closed_above
        intervals.append(Interval(low, high, left, right))
    return Form("region", text, tuple(holes), tuple(intervals), name)


def _condition(text: str) -> tuple[str, str, tuple[str, ...]] | None:
    r"""Read ``x < 3``, ``3 > x``, ``1 < x \le 3`` or ``x \ne 2`` as variable, brackets and ends."""
    signs = [match.group() for match in _RELATION.finditer(text)]
    sides = [part.strip() for part in _RELATION.split(text)]
    if any(sign not in ("<", ">", r"\le", r"\ge", r"\ne") for sign in signs) or not all(sides):
        return None
    if len(signs) == 1:
        if not _SYMBOL.fullmatch(sides[0]):
            if not _SYMBOL.fullmatch(sides[1]):
                return None
            sides.reverse()
            signs = [{"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}.get(signs[0], signs[0])]
        variable, bound = sides
        if signs[0] == r"\ne":
            return variable, r"\ne", (bound,)
        closed = signs[0].startswith("\\")
        if signs[0] in (">", r"\ge"):
            return variable, "[)" if closed else "()", (bound, "")
        return variable, "(]" if closed else "()", ("", bound)
    if len(signs) == 2 and _SYMBOL.fullmatch(sides[1]) and r"\ne" not in signs:
        falling = [sign in (">", r"\ge") for sign in signs]
        if falling[0] != falling[1]:
            return None
        if falling[0]:
            sides.reverse()
            signs.reverse()
        brackets = ("[" if signs[0].startswith("\\") else "(") + ("]" if signs[1].startswith("\\") else ")")
        return sides[1], brackets, (sides[0], sides[2])
    return None


def _interval(text: str) -> Interval | None:
    match = re.fullmatch(r"\s*(?P<left>[(\[])(?P<body>.*)(?P<right>[)\]])\s*", text)
    if not match:
        return None
    ends = [end.strip() for end in split_at(match["body"], ",")]
    if len(ends) != 2:
        return None
    return Interval(ends[0], ends[1], left=match["left"] == "[", right=match["right"] == "]")


def _set(text: str) -> Form | None:
    match = re.fullmatch(r"(?:\S\s*=\s*|[A-Za-z]\s*\\in(?![a-z])\s*)?\\\{(?P<body>.*?)\\\}|\{(?P<bare>[^{}]*)\}", text)
    if not match:
        return None
    items = [item.strip() for item in split_at(match["body"] or match["bare"] or "", ",;")]
    return Form("set", text, tuple(item for item in items if item))


def _bracketed(text: str) -> Form | None:
    text = re.sub(r"^\(?(?:[A-Za-z]\s*,?\s*){1,4}\)?\s*=\s*(?=\()", "", text)
    match = re.fullmatch(r"(?P<left>[(\[]|\\langle)(?P<body>.*)(?P<right>[)\]]|\\rangle)", text)
    if not match or not _one_group(match["body"]):
        return None
    items = [item.strip() for item in split_at(match["body"], ",")]
    if len(items) < 2:
        return None
    return Form("tuple", text, tuple(items), brackets=f"{match['left'][-1]}{match['right'][-1]}")


def _one_group(body: str) -> bool:
    """Tell whether the brackets around ``body`` belong together: not so in ``(a) + (b)``."""
    depth = 0
    for sign in body:
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:
            return False
    return depth == 0


def _list(text: str) -> Form | None:
    joined = _OR.sub(",", _AND.sub(",", text))
    items = [item.strip() for item in split_at(joined, ",;")]
    if len(items) < 2 or not all(items):
        return None
    assigned = [_assignment(item) for item in items]
    names = tuple(one[0] if one else "" for one in assigned)
    values = tuple(one[1] if one else item for one, item in zip(assigned, items, strict=True))
    return Form("list", text, values, names=names)


def _plus_minus(text: str) -> Form | None:
    if text.count(r"\pm") != 1:
        return None
    assigned = _assignment(text)
    body = assigned[1] if assigned else text
    plus, minus = body.replace(r"\pm", "+"), body.replace(r"\pm", "-")
    name = assigned[0] if assigned else ""
    return Form("list", text, (plus.strip().removeprefix("+").strip(), minus.strip()), names=(name, name))


def _equation(text: str) -> Form | None:
    if split := _assignment(text):
        if r"\pm" in text or len(split_at(_OR.sub(",", _AND.sub(",", text)), ",;")) > 1:
            return None
        return Form("scalar", text, (split[1],), name=split[0])
    sides = text.split("=")
    if len(sides) == 2 and all(side.strip() for side in sides) and "," not in text:
        return Form("equation", text, (sides[0].strip(), sides[1].strip()))
    return None


def _assignment(text: str) -> tuple[str, str] | None:
    """Read ``x = 5`` as a name and a value."""
    name, sign, value = text.partition("=")
    if sign and _SYMBOL.fullmatch(name.strip()) and value.strip() and "=" not in value:
        return re.sub(r"\s+", "", name), value.strip()
    return None
