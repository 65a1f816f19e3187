r"""Whether two answers are equal as mathematics. The parser is math-verify's (latex2sympy2); the checks are ours.

math-verify compares lists, tuples, sets and units loosely, and rounds. Here the structure is compared first
(``forms``), and scalars by exact value: rational numbers as fractions, expressions at random points to 30 digits.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from importlib import import_module
from typing import Any

from .forms import Form, Interval, form_of
from .notation import plain
from .quantities import NOT_UNITS, ROUNDED, Quantity, quantity_of, same_quantity

_DIGITS = 30
_POINTS = 4
_REST = Fraction(1, 10**60)
"""A value that is exactly zero may be evaluated to a smaller one."""

_BASE = re.compile(r"(?P<digits>[0-9A-F]+)\s*_\s*\{?(?P<base>\d+)\}?")
_RATIO = re.compile(r"(?P<a>\d+(?:\.\d+)?)\s*(?P<sign>:|to)\s*(?P<b>\d+(?:\.\d+)?)")
_TRAILING_UNIT = re.compile(r"(?P<value>.*[\d)}iexyz])\s+(?P<unit>[A-Za-z]{2,}[A-Za-z ]*(?:\^\s*\{?\d\}?)?)")
_NOT_PROSE = re.compile(r"\\(?:begin|end)\{\w+\}|\\[A-Za-z]+|_\{\w+\}")
_CONSTANT = re.compile(r"\s*\+\s*[Cc]$")


def equal(reference: str, stated: str) -> bool | None:
    r"""Tell whether two answers are equal; None if that cannot be decided. May take very long, or exhaust memory.

    >>> equal("x<2 or x>3", "(-\\infty,2)\\cup(3,\\infty)"), equal("(1,2)", "(2,1)"), equal("1/2", "0.5")
    (True, False, True)
    """
    one, other = plain(reference), plain(stated)
    if one == other:
        return True
    simple = _simple(one, other)
    found = _same_form(form_of(reference), form_of(stated)) if simple is None else simple
    return None if found is None else bool(found)  # sympy has its own truth values


def _simple(one: str, other: str) -> bool | None:
    """Compare numbers, ratios and numerals of other bases; None if the answers are something else."""
    bases = (_BASE.fullmatch(one), _BASE.fullmatch(other))
    if any(bases):
        return _same_numeral(bases[0], bases[1], one, other)
    a, b = quantity_of(one), quantity_of(other)
    if a and b:
        return same_quantity(a, b)
    ratios = (_RATIO.fullmatch(one), _RATIO.fullmatch(other))
    if all(ratios):
        return _same_ratio(*[(match["a"], match["b"], match["sign"]) for match in ratios if match])
    for ratio, quantity in ((ratios[0], b), (ratios[1], a)):
        if ratio and quantity:
            share = quantity_of(f"{ratio['a']}/{ratio['b']}")
            return share is not None and same_quantity(share, quantity)
    return None


def _same_numeral(one: re.Match[str] | None, other: re.Match[str] | None, a: str, b: str) -> bool:
    """Compare numerals with a base. A base that only the reference names is implied, as the problem asks for it."""
    if one and other:
        same_base = int(one["base"]) == int(other["base"])
        return same_base and one["digits"].lstrip("0") == other["digits"].lstrip("0")
    return one is not None and one["digits"] == b if other is None else False


def _same_ratio(one: tuple[str, str, str], other: tuple[str, str, str]) -> bool:
    if any(sign == ":" and len(b) == 2 and Fraction(b) < 60 and Fraction(a) < 25 for a, b, sign in (one, other)):
        return one[:2] == other[:2]  # a time
    return Fraction(one[0]) * Fraction(other[1]) == Fraction(other[0]) * Fraction(one[1])


def _same_form(one: Form, other: Form) -> bool | None:
    kinds = {one.kind, other.kind}
    if kinds == {"words"}:
        return one.text == other.text
    if "words" in kinds:
        return False
    if "region" in kinds:
        return _same_region(one, other)
    if kinds == {"equation"}:
        return _same_equation(one, other)
    if kinds == {"equation", "scalar"}:
        equation, scalar = (one, other) if one.kind == "equation" else (other, one)
        if not scalar.name:
            return None if equation.text == scalar.text else False
        return _same_equation(equation, Form("equation", scalar.text, (scalar.name, scalar.items[0])))
    if kinds == {"scalar"}:
        if one.name and other.name and one.name != other.name:
            if "(" in one.name or "(" in other.name or not {one.name, other.name} <= {"x", "y"}:
                return False
            return _same_equation(
                Form("equation", one.text, (one.name, one.items[0])),
                Form("equation", other.text, (other.name, other.items[0])),
            )
        return _same_scalar(one.items[0], other.items[0])
    return _same_items(one, other)


def _same_items(one: Form, other: Form) -> bool | None:
    kinds = (one.kind, other.kind)
    if "scalar" in kinds and "set" in kinds:  # {5} is 5
        items = one.items if one.kind == "set" else other.items
        scalar = one if one.kind == "scalar" else other
        return len(items) == 1 and _same_scalar(items[0], scalar.items[0])
    if "scalar" in kinds or "equation" in kinds:
        return False
    if set(kinds) == {"set", "tuple"}:
        return False
    if "tuple" in kinds:
        ordered = one.items, other.items
        if set(kinds) == {"tuple"} and one.brackets != other.brackets and "[" in one.brackets + other.brackets:
            return False
        if len(ordered[0]) != len(ordered[1]):
            return False
        return _all(equal(a, b) for a, b in zip(*ordered, strict=True))
    if any(one.names) and any(other.names) and set(one.names) == set(other.names) and len(set(one.names)) > 1:
        values = dict(zip(other.names, other.items, strict=True))
        return _all(equal(value, values[name]) for name, value in zip(one.names, one.items, strict=True))
    if any(one.names) and any(other.names) and set(one.names) != set(other.names):
        return False
    return _same_set(one.items, other.items)


def _all(results: Iterable[bool | None]) -> bool | None:
    found = [*results]
    return False if False in found else None if None in found else True


def _same_set(one: Sequence[str], other: Sequence[str]) -> bool | None:
    left = [*other]
    if len({plain(item) for item in one}) != len({plain(item) for item in other}):
        return False
    for item in dict.fromkeys(map(plain, one)):
        match = next((place for place, candidate in enumerate(left) if equal(item, candidate)), None)
        if match is None:
            return False
        del left[match]
    return True


def _same_region(one: Form, other: Form) -> bool | None:
    if one.name and other.name and one.name != other.name:
        return False
    a, b = _region_of(one), _region_of(other)
    return None if a is None or b is None else bool(a == b)


def _region_of(form: Form) -> Any:
    if form.kind == "tuple" and len(form.items) == 2:
        form = Form(
            "region", form.text, intervals=(Interval(*form.items, form.brackets[0] == "[", form.brackets[1] == "]"),)
        )
    if form.kind not in ("region", "set"):
        return False
    sympy: Any = import_module("sympy")
    union: Any = sympy.EmptySet
    for interval in form.intervals:
        ends = [_value(end) for end in (interval.low, interval.high)]
        if any(end is None or end.free_symbols for end in ends):
            return None
        union = sympy.Union(union, sympy.Interval(*ends, not interval.left, not interval.right))
    points = [_value(item) for item in form.items]
    if any(point is None for point in points):
        return None
    return sympy.Union(union, sympy.FiniteSet(*points)) if form.kind == "set" else union - sympy.FiniteSet(*points)


def _same_equation(one: Form, other: Form) -> bool | None:
    """Compare two equations: the differences of their sides are multiples of each other."""
    sides = [[_parsed(side) for side in form.items] for form in (one, other)]
    if any(side is None for pair in sides for side in pair):
        return None
    differences = [pair[0] - pair[1] for pair in sides]
    symbols = differences[0].free_symbols | differences[1].free_symbols
    ratios = [
        _number((differences[0] / differences[1]).subs(point)) for point in itertools.islice(_points(symbols), _POINTS)
    ]
    if any(ratio is None for ratio in ratios):
        return None
    return bool(all(_same_number(ratio, ratios[0]) for ratio in ratios) and abs(ratios[0]) > 0)


def _same_scalar(one: str, other: str) -> bool | None:
    a, b = quantity_of(one), quantity_of(other)
    if a and b:
        return same_quantity(a, b)
    if a is None and b is None and (words := _units_apart(one, other)) is not None:
        return words
    one, other = _without_unit(one), _without_unit(other)
    values = _parsed(_CONSTANT.sub("+C", one)), _parsed(_CONSTANT.sub("+C", other))
    if values[0] is None or values[1] is None:
        return False if (a or b) and not (values[0] is None and values[1] is None) else None
    if any(quantity and quantity.decimals and quantity.decimals >= ROUNDED for quantity in (a, b)):
        return _rounds(a or b, values[1] if a else values[0])
    return _same_value(*values)


def _units_apart(one: str, other: str) -> bool | None:
    r"""Compare two expressions that both end in words, such as ``2\pi cm``: False if the words differ."""
    matches = [_TRAILING_UNIT.fullmatch(text) for text in (one, other)]
    if not all(matches):
        return None
    units = [Quantity(Fraction(1), match["unit"]).scaled().unit for match in matches if match]
    if units[0] != units[1]:
        return False
    return _same_scalar(*[match["value"] for match in matches if match])


def _without_unit(text: str) -> str:
    match = _TRAILING_UNIT.fullmatch(text)
    return match["value"] if match and not NOT_UNITS.search(match["unit"]) else text


def _rounds(decimal: Quantity | None, exact: Any) -> bool | None:
    value = _number(exact)
    if decimal is None or value is None or decimal.decimals is None:
        return None
    return abs(value - float(decimal.value)) <= 0.5 * 10.0**-decimal.decimals * (1 + 1e-9)


def _same_value(one: Any, other: Any) -> bool | None:
    if hasattr(one, "shape") or hasattr(other, "shape"):
        if getattr(one, "shape", None) != getattr(other, "shape", None):
            return False
        return _all(_same_value(a, b) for a, b in zip(one, other, strict=True))
    if one == other:
        return True
    sympy: Any = import_module("sympy")
    symbols = one.free_symbols | other.free_symbols
    decided = False
    signs = (1, -1) if one.has(sympy.Abs) or other.has(sympy.Abs) else (1,)
    points = ({name: sign * value for name, value in point.items()} for point in _points(symbols) for sign in signs)
    for point in points:
        values = [_number(side.subs(point)) for side in (one, other)]
        if values[0] is None or values[1] is None:
            continue
        if not _same_number(*values):
            return False
        decided = True
    return True if decided else None


def _points(symbols: Iterable[Any]) -> Iterator[Mapping[Any, Any]]:
    """Yield values for the symbols: fixed irrational-looking numbers, all different."""
    sympy: Any = import_module("sympy")
    names = sorted(symbols, key=str)
    for start in range(_POINTS):
        yield {
            name: sympy.Rational(1_000_003 + 7_919 * (place + 1) * (start + 2), 700_001 + 331 * place * (start + 1))
            for place, name in enumerate(names)
        }


def _same_number(one: Any, other: Any) -> bool:
    """Compare two values: rational numbers exactly, so that 2^100 is not 2^100 + 1, and others to 20 digits."""
    if one.is_Rational and other.is_Rational:
        return one == other
    return abs(one - other) <= 10**-20 * max(abs(one), abs(other)) + _REST


def _number(expression: Any) -> Any:
    """Evaluate an expression: a rational number exactly, others to 30 digits; None if it has no finite value."""
    try:
        value = expression if expression.is_Rational else expression.evalf(_DIGITS)
        return value if value.is_number and value.is_finite is not False else None
    except (AttributeError, TypeError, ValueError):
        return None


def _value(text: str) -> Any:
    sympy: Any = import_module("sympy")
    stripped = text.strip().lstrip("+").strip()
    if stripped in (r"\infty", r"-\infty", r"- \infty"):
        return -sympy.oo if stripped.startswith("-") else sympy.oo
    quantity = quantity_of(stripped)
    if quantity:
        return sympy.Rational(quantity.value.numerator, quantity.value.denominator)
    return _parsed(stripped)


def _parsed(text: str) -> Any:
    """Parse LaTeX; None if it is not mathematics. Decimals are read exactly, and the letter i as the imaginary unit."""
    sympy: Any = import_module("sympy")
    parser: Any = import_module("latex2sympy2_extended.latex2sympy2")
    if not text.strip() or re.search(r"[A-Za-z]{4,}", _NOT_PROSE.sub(" ", text)):
        return None
    try:
        parsed = parser.latex2sympy(
            text, normalization_config=None, conversion_config=parser.ConversionConfig(lowercase_symbols=False)
        )
    except Exception:  # the parser raises many types
        return None
    if not hasattr(parsed, "free_symbols") and not hasattr(parsed, "shape"):
        return None
    letters = {"i": sympy.I, "e": sympy.E}
    exact = {decimal: sympy.Rational(str(decimal)) for decimal in parsed.atoms(sympy.Float)}
    constants = {symbol: letters[str(symbol)] for symbol in parsed.free_symbols if str(symbol) in letters}
    try:
        return parsed.xreplace(exact).subs(constants).doit()
    except Exception:  # as above
        return None
