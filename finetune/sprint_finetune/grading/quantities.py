"""Exact numbers with their units: ``1.5 hours`` is ``90 min``, ``50%`` is ``1/2``, ``2.5e3`` is ``2500``."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from .notation import plain

_LONGEST = 4_000
"""Digits of a number; Python refuses to read longer ones, and they are compared as text."""

ROUNDED = 6
"""A decimal with at least so many digits after the point equals the exact value that it rounds."""

_INTEGER = r"\d+"
_DECIMAL = r"(?:\d+\.\d*|\.\d+|\d+)"
_POWER = r"(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*(?P<power>[-+]?\d+)\s*\}|(?P<digit>[-+]?\d))"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:"
    rf"(?P<whole>{_INTEGER})\s*(?:\s|\+|\\frac)\s*(?<=[\s+c])(?:(?<=c)|\\frac)?"
    rf"(?:\{{\s*(?P<mixed_a>\d+)\s*\}}\{{\s*(?P<mixed_b>\d+)\s*\}}|(?<=\s)(?P<mixed_c>\d+)\s*/\s*(?P<mixed_d>\d+))"
    rf"|\\frac\{{\s*(?P<a>-?{_DECIMAL})\s*\}}\{{\s*(?P<b>-?{_DECIMAL})\s*\}}"
    rf"|(?P<c>{_DECIMAL})\s*/\s*(?P<d>{_DECIMAL})"
    rf"|(?P<before>\d*)\.(?P<fixed>\d*)\\(?:overline|bar)\{{(?P<repeated>\d+)\}}"
    rf"|10\s*\^\s*\{{(?P<ten>[-+]?\d+)\}}"
    rf"|(?P<decimal>{_DECIMAL})(?:[eE](?P<exponent>[-+]?\d+)|\s*{_POWER})?"
    rf")"
)
_REPEATING = re.compile(r"(\d*\.\d*)\.\.\.|\\(?:c|l)?dots")
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_UNIT = re.compile(r"[A-Za-z$%°£€¢][A-Za-z$%°£€¢./ ]*(?:\s*\^\s*(?:\{\s*-?\d\s*\}|\\circ))?[A-Za-z./ ]*")
NOT_UNITS = re.compile(
    r"\b(?:or|and|not|no|more|less|than|at|minus|plus|times|over|about|approximately|if|but|to|greater|fewer|"
    r"above|below|between|divided|by|mod|modulo|choose|factorial|infinity|is|are|out|wrong|incorrect|half|"
    r"dozen|pi|i|e|x|y|z|n|k|percentage points)\b",
    re.IGNORECASE,
)
_SCALES: dict[str, tuple[str, Fraction]] = {
    **dict.fromkeys(("mm", "millimeter", "millimetre"), ("length", Fraction(1, 1000))),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), ("length", Fraction(1, 100))),
    **dict.fromkeys(("m", "meter", "metre"), ("length", Fraction(1))),
    **dict.fromkeys(("km", "kilometer", "kilometre"), ("length", Fraction(1000))),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), ("length", Fraction(1, 10**9))),
    **dict.fromkeys(("in", "inch", "inche"), ("length", Fraction(254, 10_000))),
    **dict.fromkeys(("ft", "foot", "feet"), ("length", Fraction(3048, 10_000))),
    **dict.fromkeys(("yd", "yard"), ("length", Fraction(9144, 10_000))),
    **dict.fromkeys(("mi", "mile"), ("length", Fraction(1_609_344, 1000))),
    **dict.fromkeys(("mg", "milligram"), ("mass", Fraction(1, 1000))),
    **dict.fromkeys(("g", "gram"), ("mass", Fraction(1))),
    **dict.fromkeys(("kg", "kilogram"), ("mass", Fraction(1000))),
    **dict.fromkeys(("ms", "millisecond"), ("time", Fraction(1, 1000))),
    **dict.fromkeys(("s", "sec", "second"), ("time", Fraction(1))),
    **dict.fromkeys(("min", "minute"), ("time", Fraction(60))),
    **dict.fromkeys(("h", "hr", "hour"), ("time", Fraction(3600))),
    **dict.fromkeys(("d", "day"), ("time", Fraction(86_400))),
    **dict.fromkeys(("$", "dollar", "usd", "buck"), ("dollar", Fraction(1))),
    **dict.fromkeys(("¢", "cent"), ("dollar", Fraction(1, 100))),
    **dict.fromkeys(("degree", "deg", "°"), ("degree", Fraction(1))),
    **dict.fromkeys(("radian", "rad"), ("radian", Fraction(1))),
    **dict.fromkeys(("l", "liter", "litre"), ("volume", Fraction(1))),
    **dict.fromkeys(("ml", "milliliter", "millilitre"), ("volume", Fraction(1, 1000))),
    **dict.fromkeys(("j", "joule"), ("energy", Fraction(1))),
    **dict.fromkeys(("kj", "kilojoule"), ("energy", Fraction(1000))),
    **dict.fromkeys(("ev",), ("electronvolt", Fraction(1))),
    **dict.fromkeys(("kev",), ("electronvolt", Fraction(10**3))),
    **dict.fromkeys(("gev",), ("electronvolt", Fraction(10**9))),
    **dict.fromkeys(("hz", "hertz"), ("frequency", Fraction(1))),
    **dict.fromkeys(("khz", "kilohertz"), ("frequency", Fraction(1000))),
    **dict.fromkeys(("mhz", "megahertz"), ("frequency", Fraction(10**6))),
}
_PREFIXED = {"MeV": ("electronvolt", Fraction(10**6)), "meV": ("electronvolt", Fraction(1, 1000))}
_FACTORS = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SMALL = frozenset({"am", "pm", "of", "in", "per", "mL", "C", "F", "K", "J", "N", "W", "V", "A", "Pa", "to"})
"""Short words and symbols in units that have no scale here."""
_EXPONENTS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact value and its unit: "" without one, "%" for a percentage.

    ``decimals`` is the number of digits after the point of a number that is written as a decimal, else None.
    """

    value: Fraction
    unit: str = ""
    decimals: int | None = None

    def scaled(self) -> "Quantity":
        """Return the value in the base unit of its dimension, if the unit is a known one."""
        scale, base = _scale(self.unit)
        return Quantity(self.value * scale, base, self.decimals)


def quantity_of(answer: str) -> Quantity | None:
    r"""Read a number with or without a unit, or return None if the answer is anything else.

    >>> quantity_of("$3\\frac{1}{2}$ miles"), quantity_of("5 or 6")
    (Quantity(value=Fraction(7, 2), unit='miles', decimals=None), None)
    """
    text = plain(answer)
    if text.casefold() in _WORDS:
        return Quantity(Fraction(_WORDS.index(text.casefold())))
    money = re.fullmatch(r"(?P<sign>-?)\s*(?P<unit>[$£€])\s*(?P<rest>.*)", text)
    if money:
        text = f"{money['sign']}{money['rest']}"
    match = _NUMBER.match(text)
    if not match or len(text) > _LONGEST:
        return None
    unit = text[match.end() :].strip().replace(r"^\circ", "degrees").strip()
    if unit.startswith("degrees") and unit[7:].strip() in ("degrees", "degree"):
        unit = "degrees"
    if unit and (not _is_unit(unit, apart=text[match.end()] == " ") or NOT_UNITS.search(unit)):
        return None
    if money:
        unit = money["unit"] if unit.casefold() in ("", "dollars", "usd") else f"{money['unit']} {unit}"
    value = _value(match)
    factor, _, rest = unit.partition(" ")
    if value is not None and factor.casefold() in _FACTORS:
        value, unit = value * _FACTORS[factor.casefold()], rest.strip()
    decimal = match["decimal"]
    decimals = len(decimal.partition(".")[2]) if decimal and "." in decimal else None
    return None if value is None else Quantity(value, unit, decimals)


def same_quantity(reference: Quantity, stated: Quantity) -> bool:
    """Compare two quantities exactly. A unit or a percent sign that only one of them has is implied.

    >>> same_quantity(Quantity(Fraction(3, 2), "hours"), Quantity(Fraction(90), "min"))
    True
    """
    if "%" in (reference.unit, stated.unit):
        return _same_share(reference, stated)
    if not reference.unit or not stated.unit:
        return _same_value(reference, stated)
    one, other = reference.scaled(), stated.scaled()
    return one.unit == other.unit and _same_value(one, other)


def _is_unit(unit: str, *, apart: bool) -> bool:
    """Tell whether what follows a number is a unit: a known one, or words. ``3m`` and ``2 ab`` are products."""
    if not _UNIT.fullmatch(unit):
        return False
    names = re.sub(r"\^.*", "", unit).split()
    known = all(_known(name) or _known(name.strip("()./")) for name in re.split(r"[\s/]+", " ".join(names)) if name)
    if known:
        return apart or len(names[0]) > 1 or not names[0].isalpha()
    return apart and all(len(name) > 2 or _known(name) or name in _SMALL for name in names)


def _known(name: str) -> bool:
    return (
        name in "$%\u00b0\u00a3\u20ac\u00a2"
        or name in _PREFIXED
        or name.casefold() in _EXPONENTS
        or _singular(name.casefold()) in _SCALES
    )


def _same_value(one: Quantity, other: Quantity) -> bool:
    """Compare exactly, except that a long decimal may be the rounded value of a fraction."""
    for decimal, exact in ((one, other), (other, one)):
        if decimal.decimals is not None and decimal.decimals >= ROUNDED and exact.decimals is None:
            return 2 * abs(decimal.value - exact.value) <= Fraction(1, 10**decimal.decimals)
    return one.value == other.value


def _same_share(reference: Quantity, stated: Quantity) -> bool:
    if {reference.unit, stated.unit} - {"", "%", "percent"}:
        return False
    shares = [one.value / 100 if one.unit == "%" else one.value for one in (reference, stated)]
    if shares[0] == shares[1]:
        return True
    # "50" may mean "50%": the sign is often left out. "0.5" is not "0.5%".
    return reference.unit != stated.unit and reference.value == stated.value and abs(reference.value) > 1


@cache
def _scale(unit: str) -> tuple[Fraction, str]:
    """Return the factor to the base unit, and a name for the base unit with its exponent."""
    words = [word for word in re.sub(r"[{}]", "", unit).replace("^", " ^").split() if word not in ("of", "the", "long")]
    power = 1
    names: list[str] = []
    for word in words:
        if word.startswith("^"):
            power = int(word[1:]) if word[1:].lstrip("-").isdigit() else 1
        elif word.casefold() in _EXPONENTS:
            power = _EXPONENTS[word.casefold()]
        else:
            names.append(word)
    name = " ".join(names)
    known = _PREFIXED.get(name) or _SCALES.get(_singular(name.casefold().rstrip(".")))
    if known is None:
        return Fraction(1), f"{_singular(name.casefold().rstrip('.'))}^{power}"
    dimension, scale = known
    return scale**power, f"{dimension}^{power}"


def _singular(name: str) -> str:
    return name[:-1] if len(name) > 2 and name.endswith("s") and not name.endswith("ss") else name


def _value(match: re.Match[str]) -> Fraction | None:
    found = {name: value for name, value in match.groupdict().items() if value}
    sign = -1 if found.get("sign") == "-" else 1
    try:
        value = _unsigned(found)
    except (ValueError, ZeroDivisionError):
        return None
    return None if value is None else sign * value


def _unsigned(found: dict[str, str]) -> Fraction | None:
    exponent = int(found.get("exponent") or found.get("power") or found.get("digit") or found.get("ten") or 0)
    if abs(exponent) > _LONGEST:
        return None
    if whole := found.get("whole"):
        return int(whole) + Fraction(
            int(found.get("mixed_a") or found["mixed_c"]), int(found.get("mixed_b") or found["mixed_d"])
        )
    if "a" in found:
        return Fraction(found["a"]) / Fraction(found["b"])
    if "c" in found:
        return Fraction(found["c"]) / Fraction(found["d"])
    if repeated := found.get("repeated"):
        fixed = found.get("fixed", "")
        digits = Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(fixed))
        return Fraction(f"{found.get('before') or 0}.{fixed or 0}") + digits
    if "ten" in found:
        return Fraction(10) ** exponent
    return Fraction(found["decimal"]) * Fraction(10) ** exponent
