r"""One notation for the many ways to write an answer: ``plain`` turns text, Unicode and LaTeX into simple LaTeX.

``½``, ``1/2`` and ``\dfrac12`` are still different texts afterwards, but the signs in them mean one thing each.
"""

import re

_SIGNS = {
    **dict.fromkeys("\u2212\u2013\u2014\ufe63\uff0d", "-"),
    "\u00d7": r"\times ",
    **dict.fromkeys("\u00b7\u22c5\u2217", r"\cdot "),
    "\u00f7": "/",
    "\u2264": r"\le ",
    "\u2265": r"\ge ",
    "\u2260": r"\ne ",
    "\u221e": r"\infty ",
    "\u222a": r"\cup ",
    "\u2229": r"\cap ",
    "\u2208": r"\in ",
    "\u2205": r"\emptyset ",
    "\u211d": r"\mathbb{R}",
    "\u00b1": r"\pm ",
    "\u00b0": r"^\circ ",
    "\u03c0": r"\pi ",
    "\u03b8": r"\theta ",
    "\u03b1": r"\alpha ",
    "\u03b2": r"\beta ",
    "\u03bb": r"\lambda ",
    "\u2200": r"\forall ",
    "\u2248": r"\approx ",
    "\uff05": "%",
    **dict.fromkeys("\u00a0\u2009\u202f\u2002\u2003\u200a", " "),
    **dict.fromkeys("\u200b\ufeff\u2060", ""),
    **{sign: rf"\frac{{{a}}}{{{b}}}" for sign, a, b in ("½12", "¼14", "¾34", "⅓13", "⅔23", "⅕15", "⅙16", "⅛18", "⅜38")},
}
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ"
_RAISED = re.compile(f"[{_SUPERSCRIPTS}]+")
_ROOT = re.compile(r"(?P<sign>[√∛])\s*(?:\((?P<bracket>[^()]*)\)|(?P<plain>\d+(?:\.\d+)?|[A-Za-z]))")
_SQRT = re.compile(r"(?<![\\A-Za-z])(?P<name>sqrt|cbrt)\s*(?:\((?P<bracket>[^()]*)\)|(?=\{))")
_NAMES = re.compile(r"(?<![\\A-Za-z])(pi|theta|infinity|infty|inf|oo)(?![A-Za-z])")
_FUNCTIONS = re.compile(r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|sec|csc|cot|ln|log)(?![a-z])")
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|bigl|bigr|Bigl|Bigr|big|Big|limits)(?![A-Za-z])\.?|(?<!\\)\\[!;:>]|\\(?:quad|qquad)\b"
)
_SPACING = re.compile(r"(?<!\\)\\[, ]|~")
_STYLED = re.compile(
    r"\\(?:boxed|fbox|mathbf|mathit|mathsf|boldsymbol|bm|textbf|textit|textsf|emph|underline|mathrm|mbox|text|textnormal|"
    r"operatorname|textrm)\s*\{([^{}]*)\}"
)
_FRACTION = re.compile(r"\\(?:d|t|c|s)?frac(?![A-Za-z])")
_SHORT = re.compile(r"\\frac\s*(?P<a>\d|[A-Za-z]|\{(?:[^{}]|\{[^{}]*\})*\})\s*(?P<b>\d|[A-Za-z](?![A-Za-z])|\{)")
_SHORT_ROOT = re.compile(r"\\sqrt\s*(\d|[A-Za-z](?![A-Za-z]))")
_POWER = re.compile(r"\^\s*(?:(-?\d+(?:\.\d+)?)|\((-?[\w/]+)\))")
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:(?:,|\\,|\{,\}|,\\!| (?=\d{3}))\d{3})+(?![\d])")
_BRACKETED = re.compile(r"(?:[(\[]|\\\{)(?:\\[A-Za-z]+|[^()\[\]A-Za-z\\;])*(?:[)\]]|\\\})")
"""Matches numbers in brackets."""
_ROUND = re.compile(r"\D*\d{1,3}(?:,000)+\D*")
_SPACES = re.compile(r"\s+")
_NEGATED = {r"\leq": r"\le", r"\geq": r"\ge", r"\leqslant": r"\le", r"\geqslant": r"\ge", r"\neq": r"\ne"}
_LONG = re.compile(r"\\(?:leqslant|geqslant|leq|geq|neq)(?![A-Za-z])")
_ASCII = {"<=": r"\le ", ">=": r"\ge ", "!=": r"\ne ", "=<": r"\le ", "=>": r"\ge "}
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])")


def plain(answer: str) -> str:
    r"""Write an answer in simple LaTeX, without dollar signs around it, styles, spacing or Unicode.

    >>> plain("$\\dfrac12$."), plain("√2 ≤ x"), plain("\\text{ (D) }"), plain("1{,}000\\%")
    ('\\frac{1}{2}', '\\sqrt{2} \\le x', '(D)', '1000%')
    """
    text = _without_math_marks(answer.strip())
    text = "".join(_SIGNS.get(sign, sign) for sign in text)
    text = _RAISED.sub(lambda m: "^{" + "".join("0123456789-+n"[_SUPERSCRIPTS.index(s)] for s in m.group()) + "}", text)
    text = _ROOT.sub(_root, text)
    text = _SQRT.sub(_root, text)
    text = _NAMES.sub(lambda m: {"pi": r"\pi ", "theta": r"\theta "}.get(m.group(), r"\infty "), text)
    text = _FUNCTIONS.sub(r"\\\1", text)
    text = _BRACKETED.sub(_spaced, text)
    text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m.group()), text)
    text = _DEGREES.sub(r"^\\circ ", text)
    text = _SPACING.sub(" ", _DROPPED.sub("", text))
    text = text.replace(r"\%", "%").replace(r"\$", "$").replace("**", "").replace("__", "")
    while (unstyled := _STYLED.sub(r" \1 ", text)) != text:
        text = unstyled
    text = _FRACTION.sub(r"\\frac", text)
    while (full := _SHORT.sub(_full_fraction, text, count=1)) != text:
        text = full
    text = _SHORT_ROOT.sub(r"\\sqrt{\1}", text)
    text = _POWER.sub(lambda m: f"^{{{m[1] or m[2]}}}", text)
    text = _LONG.sub(lambda m: _NEGATED[m.group()], text)
    for sign, command in _ASCII.items():
        text = text.replace(sign, command)
    return _SPACES.sub(" ", text).strip().rstrip(".,;").strip()


def split_at(text: str, separators: str) -> list[str]:
    """Split at separators that are outside brackets.

    >>> split_at("(1, 2), {3, 4}", ",")
    ['(1, 2)', ' {3, 4}']
    """
    parts: list[str] = []
    depth = start = 0
    for place, sign in enumerate(text):
        if sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth = max(depth - 1, 0)
        elif sign in separators and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _without_math_marks(text: str) -> str:
    r"""Remove the marks around formulas: ``$``, ``\(``, ``\[``. A dollar sign before an amount is kept."""
    text = re.sub(r"(?<!\\)\\[()]", " ", re.sub(r"(?<!\\)\\[\[\]]", " ", text))
    if text.startswith("$") and text.count("$") == 1:
        return text
    return re.sub(r"(?<!\\)\$", " ", text)


def _spaced(match: re.Match[str]) -> str:
    """Write a space after the comma of a pair such as ``(100,200)``; ``(1,000)`` and ``(1,000, 2)`` have thousands."""
    text = match.group()
    return text if ", " in text or _ROUND.fullmatch(text) else re.sub(r"(?<!\{),(?!\})", ", ", text)


def _root(match: re.Match[str]) -> str:
    found = match.groupdict()
    command = r"\sqrt[3]" if found.get("sign") == "∛" or found.get("name") == "cbrt" else r"\sqrt"
    content = found.get("bracket") or found.get("plain")
    return f"{command}{{{content}}}" if content else command


def _full_fraction(match: re.Match[str]) -> str:
    a, b = match["a"], match["b"]
    if a.startswith("{") and b == "{":
        return match.group().replace(r"\frac ", r"\frac")
    upper = a if a.startswith("{") else f"{{{a}}}"
    return rf"\frac{upper}{b if b == '{' else f'{{{b}}}'}"
