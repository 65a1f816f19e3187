r"""Letters of multiple choice, in all the ways that models write them.

``(D)``, ``\text{(D)}``, ``**D**``, ``D.``, ``B. 11 carbons`` and ``option C`` name a choice.
``A large number``, ``AB``, ``A or B`` and ``not B`` do not.
"""

import re

from .notation import plain

_LETTER = r"\(?\s*(?P<letter>[A-J]|[a-j](?=\s*\)|\s*$))\s*\)?"
_NAMED = re.compile(
    rf"(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:option|choice|answer|letter|statement)s?\s*(?:is|:)?\s*{_LETTER}"
    r"(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_ALONE = re.compile(rf"{_LETTER}(?P<rest>.*)", re.DOTALL)
_MARKED = re.compile(r"\s*[.):,;\u2013\u2014-](?!\s*[-+*/=^]).*|\s*$", re.DOTALL)
_SENTENCE = re.compile(r"\s+(?:is|as|because|since|due|with|seems?|which|\().*", re.DOTALL)
_ANOTHER = re.compile(
    r"\s*(?:,|or|and|/|&|\bor\b)+\s*(?:(?:option|choice)\s+)?\(?[A-J]\)?(?![\w'])|\s*(?:is|are)\s+(?:not|wrong|incorrect|false)",
)
_OPTION = re.compile(
    r"(?:^|(?<=[\s,;.]))(?:\((?P<a>[A-J])\)|(?P<b>[A-J])[.):])\s*(?P<text>.*?)"
    r"(?=\s*[,;]?\s*(?:(?<=[\s,;.])\([A-J]\)|(?<=[\s,;.])[A-J][.):]\s)|\s*\n|\s*$)",
    re.DOTALL,
)
_LABELLED = re.compile(
    r"\(\s*(?P<letter>[A-J])\s*\)(?!\s*(?:[+*/^=<>,|]|-\s|\([A-J]\)|\\c[ua]p|\\cdot|\\times))\s*(?P<text>\S.*)",
    re.DOTALL,
)
_SET = re.compile(r"[A-J](?:\s*(?:,|and|&|or)+\s*[A-J])+")


def choice_letter(answer: str) -> str | None:
    r"""Return the letter that an answer names, in upper case, or None.

    >>> [choice_letter(text) for text in ("**B**. 11 carbons", "\\text{(D)}", "option C", "A large one", "A or B", "x")]
    ['B', 'D', 'C', None, None, None]
    """
    text = plain(answer.replace("`", "").replace("*", "")).strip(" '\"{}[]")
    if match := _NAMED.fullmatch(text):
        rest = match["rest"]
        fits = not re.match(r"\w", rest)
    elif match := _ALONE.fullmatch(text):
        rest = match["rest"]
        bracketed = text[match.end("letter") : match.start("rest")].strip() == ")"
        fits = bool(_MARKED.fullmatch(rest) or _SENTENCE.fullmatch(rest)) or (bracketed and rest.startswith(" "))
    else:
        return None
    return match["letter"].upper() if fits and not _ANOTHER.match(rest) else None


def is_letter(reference: str) -> bool:
    """Tell whether a reference is nothing but a letter of multiple choice.

    >>> is_letter("(B)"), is_letter("B. 7"), is_letter("x")
    (True, False, False)
    """
    return re.fullmatch(r"\(?\s*[A-J]\s*\)?", plain(reference)) is not None


def letter_and_text(reference: str) -> tuple[str, str] | None:
    r"""Return the letter and the text of a reference that is a whole option, or None.

    >>> letter_and_text("\\textbf{(B)}\\ 12"), letter_and_text("(A) + 1"), letter_and_text("(B)")
    (('B', '12'), None, None)
    """
    match = _LABELLED.fullmatch(plain(reference))
    return (match["letter"], match["text"]) if match else None


def several_letters(answer: str) -> str | None:
    """Return the letters of an answer that names several choices, such as "A, C", in alphabetical order.

    >>> several_letters("C and A"), several_letters("A")
    ('AC', None)
    """
    text = plain(answer)
    return "".join(sorted({*re.findall(r"[A-J]", text)})) if _SET.fullmatch(text) else None


def options_of(problem: str) -> dict[str, str]:
    """Return the options that a problem lists, by letter; empty if there are not at least two in alphabetical order.

    >>> options_of("Which? A) 2 B) 3 C) 5"), options_of("Points A, B.")
    ({'A': '2', 'B': '3', 'C': '5'}, {})
    """
    found: dict[str, str] = {}
    for match in _OPTION.finditer(problem):
        letter = match["a"] or match["b"]
        if ord(letter) == ord("A") + len(found):
            found[letter] = match["text"].strip()
    return found if len(found) > 1 else {}
