"""Sentences that read as tasks: "Let me compute f(3)." asks to "Compute f(3).".

"Therefore, x = 3.", "Alternatively" and "Let me check that" ask for nothing that an executor could begin with.
"""

import re
from collections.abc import Sequence

from .headings import heading_task

_VERBS = (
    "add|apply|approximate|assign|assume|bring|calculate|check|choose|combine|compare|complete|compute|consider|construct|"
    "convert|count|define|denote|derive|determine|differentiate|distribute|divide|draw|eliminate|enumerate|estimate|evaluate|"
    "examine|expand|explore|factor|factorize|figure out|find|fix|get|graph|identify|integrate|introduce|isolate|list|"
    "look at|maximize|minimize|model|multiply|parametrize|parameterize|pick|place|plot|plug in|prove|"
    "rationalize|reduce|"
    "replace|represent|set|show|simplify|sketch|solve|split|square|start|start with|substitute|subtract|suppose|sum|"
    "take|test|treat|try|use|verify|visualize|work out|work with|write|write out|draw|assign|label"
)
_LEAD = re.compile(
    r"(?:(?:alternatively|another (?:way|approach|method|idea|option)|okay|ok|alright|all right|so|now|"
    r"next|first(?:ly)?|"
    r"second(?:ly)?|third(?:ly)?|then|also|wait|hmm+|but|maybe|perhaps|well|right|and|or|finally|instead|actually|"
    r"just to be (?:sure|thorough|safe)|to be (?:sure|thorough|safe)|let's see|similarly|hold on|yes|"
    r"great|good)\b[\s,.:\u2014-]*)+",
    re.IGNORECASE,
)
_HORTATIVE = re.compile(
    r"(?:(?:perhaps|maybe|instead|then|now|also)\s+)*"
    r"(?:let me|let's|let us|we can|i can|i could|we could|i'll|i will|we'll|i should|we should|i need to|"
    r"we need to|i want to|"
    r"i have to|we have to|we might|i might|it might be easier to|it might help to|one (?:way|approach|method) is to|"
    r"(?:another|a different) (?:way|approach|method) (?:is|would be|could be) to|(?:is|would be) to)\s+"
    r"(?:(?:also|just|first|now|then|instead|quickly|actually|try to|simply|directly|maybe|perhaps|again)\s+)*",
    re.IGNORECASE,
)
_IMPERATIVE = re.compile(rf"(?:{_VERBS})\b(?!\s*[,.:?]?$)", re.IGNORECASE)
_THINK = re.compile(
    r"think (?:in terms of|about (?:the|a|an|using)|geometrically|algebraically|of (?:the|a|an)\b)", re.IGNORECASE
)
_ANOTHER_WAY = re.compile(r"(?:\w+,?\s+)?(?:alternatively|another (?:way|approach|method)\s*:)", re.IGNORECASE)
_METHOD = re.compile(
    r"(?:\w{4,}ing\s+\w|by \w+ing\b|with (?:the |a )?\w+|in terms of|from (?:the|a)\b|since \S+|if (?:i|"
    r"we|you) (?:\w+\s+)?"
    r"(?:use|take|write|set|let|consider|expand|factor|multiply|divide|subtract|add|start|look|plug|substitute|count|list)\b)",
    re.IGNORECASE,
)
_USING = re.compile(r"using (?:[^\s,;=]+\s+){0,7}[^\s,;=]+[:.]", re.IGNORECASE)
_PURPOSE = re.compile(rf"to (?:{_VERBS})\b[^,]*,\s*(?:first,?\s+|just\s+|we can\s+|i can\s+|let's\s+)?", re.IGNORECASE)
_VAGUE = re.compile(
    r"\b(?:consider|suppose|say) that\b|"
    r"\b(?:this|that|it|them|these|those|again|step by step|both|earlier|previous|above|so far|the result|the answer|"
    r"my (?:answer|work|calculations?|steps?)|the (?:calculation|computation|work|steps?)|what (?:we|i) have|the same|"
    r"(?:another|a different|other|some other) (?:way|approach|method)s?|if|whether|understand\w*|"
    r"recall\w*|the problem|writing|terms? again|once more|all at once|someone|correctly|everything|correct|"
    r"one by one|to (?:confirm|check|verify)|with the actual|these steps|each step|more carefully|carefully)\b",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"\W*(?:case|subcase|option|method|approach|part|scenario|possibility|situation|way|pattern|when|if|for|suppose|assume|given|"
    r"try|trying|test|testing|consider|checking|starting with|using|with|at|left|right|numerator|"
    r"denominator|first|second|"
    r"third|the (?:first|second|third|fourth)|\(?[a-h]\)|[ivx]+\))\b",
    re.IGNORECASE,
)
_NO_TASK = re.compile(
    r"\W*(?:therefore|thus|hence|so|then|alternatively|wait|but|however|hmm+|also|since|because|and|which|this|that|it|it's|"
    r"these|those|okay|ok|yes|no|yeah|correct|let me (?:check|verify|double|confirm|think|see|recall|re)|similarly|"
    r"let's (?:check|verify|double|confirm|think|see|recall|re)|as|from|by|given that|i|we|is|does|are|"
    r"was|what|how|why|"
    r"hold|maybe|perhaps|actually|oh|ah|now|another|final|\\boxed)\b",
    re.IGNORECASE,
)
_RESULT = re.compile(r"[\d)}]\s*=\s*-?[\d.]+(?![\w(])|:\s*-?[\d.]+\.?$|\bis -?\d+\.?$")
"""A task that says its own result is none."""

_LONGEST = 60
"""Words of a prompt."""


def task_of(sentence: str) -> str | None:
    """Return the task that a sentence sets, as an imperative, or None if it sets none.

    >>> task_of("Alternatively, maybe I can use the rotation matrix."), task_of("Let me verify that.")
    ('Use the rotation matrix.', None)
    >>> task_of("To find M, set y = 0 in the equation."), task_of("Alternatively, using the law of cosines:")
    ('To find M, set y = 0 in the equation.', 'Use the law of cosines:')
    """
    text = sentence.strip()
    if len(text.split()) > _LONGEST or text.endswith("?") or "\\boxed" in text or _RESULT.search(text):
        return None
    rest = _LEAD.sub("", text, count=1) if _LEAD.match(text) else text
    asked = _HORTATIVE.sub("", rest, count=1) if _HORTATIVE.match(rest) else None
    for wanted in (asked, rest):
        if wanted and (_IMPERATIVE.match(wanted) or (wanted is asked and _THINK.match(wanted))):
            opening = re.split(r"[.:\n]", wanted, maxsplit=1)[0]
            return None if _VAGUE.search(opening) else wanted[:1].upper() + wanted[1:]
    if _USING.fullmatch(rest) and not _VAGUE.search(rest):
        return f"Use{rest[5:]}"
    if (purpose := _PURPOSE.match(rest)) and _IMPERATIVE.match(rest[purpose.end() :]):
        return None if _VAGUE.search(rest.partition(",")[0]) else rest[:1].upper() + rest[1:]
    if _ANOTHER_WAY.match(text) and _METHOD.match(rest) and not _VAGUE.search(rest):
        return f"Try another way: {rest}"
    return None


def is_heading_task(line: str) -> bool:
    """Tell whether a heading of a series can be a prompt as it is written.

    >>> is_heading_task("Case 2: n is odd."), is_heading_task("Multiples of 4: 4, 8."), is_heading_task("Then: 7.")
    (True, True, False)
    """
    return "\\boxed" not in line and reads_as_task(line) and (":" in line or _HEADING.match(line) is not None)


def reads_as_task(prompt: str) -> bool:
    """Tell whether a prompt asks for something: it is no conclusion, second thought or look back.

    >>> reads_as_task("Use the rotation matrix."), reads_as_task("Therefore, x = 3."), reads_as_task("Let me check.")
    (True, False, False)
    """
    return bool(prompt.strip()) and not _NO_TASK.match(prompt)


def task_at(lines: Sequence[str], *, within: int) -> int | None:
    """Return the position of the first line that sets a task, of the first ``within`` lines, or None."""
    return next((index for index, line in enumerate(lines[:within]) if task_of(line) is not None), None)


def restated(line: str) -> str:
    """Return the prompt that replaces a line: the task that it sets, or the heading of a named part.

    >>> restated("Let me add the digits of 84."), restated("Now A = 3 * 4")
    ('Add the digits of 84.', 'A = 3 * 4')
    """
    return task_of(line) or heading_task(line)
