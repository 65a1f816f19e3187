r"""Find the answer that a text states: in a box, after "answer", after ``####``, or as a letter in its last lines."""

import re

from .letters import choice_letter

_BRACE = re.compile(r"(?<!\\)(?:(?P<box>\\+(?:boxed|fbox)\s*\{)|\\+boxed\s+(?P<bare>[^\s${}\\]+))|\\[{}]|[{}]")
_APART = 40
"""Characters between two boxes of one list, at most."""
_BETWEEN = re.compile(r"[\s$,.;*]*(?:(?:and|or|,)[\s$*]*)?(?:\\[()]|[\s$*])*")
_MARK = re.compile(r"####\s*(?P<value>\S.*)")
_STATED = re.compile(
    r"\b(?:answer|option|choice)s?\**(?:\s+(?:is|are|would be|should be|must be|will be))?\s*(?:\**\s*[:=])?\**\s*"
    r"(?:(?:likely|probably|indeed|therefore|thus|just|approximately|clearly|definitely|simply)\s+)*"
    r"(?=\s*[^\s.])",
    re.IGNORECASE,
)
_VERB = re.compile(r"(?:\bis|\bare|\bbe|[:=])\W*(?:\w+ly\s*|indeed\s*|just\s*)*$", re.IGNORECASE)
_LETTERS = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice|OPTION)s?\s+\**\(?(?P<a>[A-J])\b|"
    r"\b(?:[Aa]nswer|ANSWER)\**\s*(?:(?:is|would be|should be|must be)\s+)?(?:\w+ly\s+)?(?:approximately\s+)?[:\s]*"
    r"(?:option\s+|choice\s+)?[*$]*\(?(?P<b>[B-J]|A(?!\s+[a-z]))(?=[\s.):,;*$]|$)|"
    r"(?:\bso|\bis|\bwith|\bbe|\bor|\*\*)\s+\**\(?(?P<c>[B-J])\)?\**\s*(?=[.:,]|$)|"
    r"^\W*\(?(?P<d>[A-J])\s*\)?\W*$|"
    r"\bgo with\s+(?:option\s+)?\(?(?P<e>[A-J])\b|"
    r"\(?\b(?P<f>[A-J])\)?\s+(?:is|seems)\s+(?:(?:the|most|likely)\s+)*(?:correct|right|plausible|best|answer)"
)
_SENTENCE_END = re.compile(r"(?<=[\w)}$])\.\s+(?=[A-Z][a-z']*\s)(?!(?<=[A-J]\.\s))")
_COMPUTED = re.compile(r"^[\d\s()+*/^.-]+=\s*(?=-?\d[\d./]*$)")
_CONCLUDED = re.compile(
    r"(?:therefore|thus|hence|so)\b.*(?:\b(?:is|are|equals?|be)\b|=)\s*(?:indeed|just|simply|exactly|equal to|to)?\s*"
    r"(?P<value>[^=]{1,60}?)\.?$",
    re.IGNORECASE,
)
_LONGEST = 1_000
"""Characters of an answer in words, and of a conclusion, at most."""
_LONGEST_CHOICE = 100
"""Characters that are read to find the letter of a choice."""
_LAST = 3
"""Lines at the end of a text in which an answer may be stated in words."""
_READ = 4_000
"""Characters at the end of such a line that are read; some patterns scan a line repeatedly."""


def stated_in(text: str, *, letters: bool = False) -> str | None:
    r"""Find the answer that a text states.

    That is the last ``\boxed{…}``, with those right before it joined by "and" or a comma, or the text after ``####``,
    or the text after "answer is" in the last lines, or after "so … is" in the last one. With ``letters``, the answer is
    a letter of multiple choice, and a box with anything else does not count if a letter is stated too.

    >>> stated_in("So it is \\boxed{3} and \\boxed{5}."), stated_in("**Answer: A**"), stated_in("#### 23")
    ('3, 5', 'A', '23')
    >>> stated_in("I'd go with option C (5.6) as the closest.", letters=True)
    'C'
    """
    boxes = _last_boxes(text)
    if boxes is not None and (not letters or choice_letter(boxes)):
        return boxes
    lines = [" ".join(line.split())[-_READ:] for line in text.splitlines() if line.strip()][-_LAST:]
    if letters and (letter := _last_letter(lines)):
        return letter
    marks = [match["value"].strip() for line in lines if (match := _MARK.match(line))]
    if marks and not marks[-1].endswith(":"):
        return marks[-1]
    if boxes is not None:
        return boxes
    value = next((value for line in reversed(lines) if (value := _after_words(line))), None)
    if value is None and lines and (match := _CONCLUDED.search(lines[-1][-_LONGEST:])):
        value = match["value"].strip(" $*")
    return value


def _last_boxes(text: str) -> str | None:
    """Return the last box, or the last boxes of one list, joined by commas."""
    found = _boxes(text)
    if not found:
        return None
    values = [found[-1][2]]
    for earlier, later in zip(reversed(found[:-1]), reversed(found), strict=False):
        between = text[earlier[1] : later[0]] if later[0] - earlier[1] < _APART else ""
        if not (_BETWEEN.fullmatch(between) and re.search(r"and|or|,", between)) or earlier[2] in values:
            break
        values.insert(0, earlier[2])
    return ", ".join(values)


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Return the innermost closed boxes: start, end and content of each. O(characters)."""
    found: list[tuple[int, int, str]] = []
    opened: list[re.Match[str] | None] = []
    for match in _BRACE.finditer(text):
        if match["bare"]:
            found.append((match.start(), match.end(), match["bare"].rstrip(".,;")))
        elif match["box"]:
            opened.append(match)
        elif match.group() == "{":
            opened.append(None)
        elif match.group() == "}" and opened:
            box = opened.pop()
            if box is not None and not (found and found[-1][0] > box.start()):
                found.append((box.start(), match.end(), text[box.end() : match.start()].strip()))
    return found


def _last_letter(lines: list[str]) -> str | None:
    """Return the letter that the last lines settle on: the last one that a phrase names."""
    for line in reversed(lines):
        found = [*_LETTERS.finditer(line)]
        if found:
            return next(group for group in reversed(found[-1].groups()) if group)
    return None


def _after_words(line: str) -> str | None:
    for match in reversed([*_STATED.finditer(line)]):
        value = (
            _SENTENCE_END.split(line[match.end() : match.end() + _LONGEST], maxsplit=1)[0]
            .strip()
            .strip("*")
            .strip()
            .removesuffix(".")
            .rstrip()
        )
        value = _COMPUTED.sub("", value)
        if value and (choice_letter(value[:_LONGEST_CHOICE]) or _VERB.search(match.group().rstrip("* "))):
            return value
    return None
