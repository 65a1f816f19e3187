"""The words by which English reasoning shows its structure. Patterns match the start of a line, or anywhere in it.

A missing word costs some parallelism.
"""

import re


def _at_start(*words: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{'|'.join(words)})(?!\w)", re.IGNORECASE)


def _anywhere(*words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE)


OPENER = re.compile(
    r"(?:(?:okay|ok|alright|all right|well|so|now|next|then|and|hmm|right|good|great)\b[\s,.:]*)+"
    r"(?=(?:let|case|for|if|when|suppose|try|method|option|first|second|the|both)\b)|"
    r"(?:first(?:ly)?|second(?:ly)?|finally)\b[\s,]*(?=(?:suppose|assume|if|when|try|consider)\b)",
    re.IGNORECASE,
)
"""Small words before a heading that carry no meaning."""

_SO = r"(?:(?:so|then|now|and|thus|hence|ok|okay),?\s+)?"
_RESULTS = "ways|methods|approaches|results|values|counts|cases|answers|numbers agree|solutions|parts|options"

JOIN = _at_start(
    rf"{_SO}(?:in total|altogether|in all|overall|all in all|summing up|"
    r"adding (?:up|everything|them|these|it|both|all)|combining|comparing|putting|collecting|"
    r"both(?: \w+){0,2} (?:give|lead|agree|work|count|yield|show|get|say|come)s?|"
    r"all (?:three|four|five|of them|of these)|"
    rf"these (?:sum|add)|they (?:all|both)|the (?:two|three|four) (?:{_RESULTS})|(?:i|we) (?:add|sum|combine|get both)|"
    r"either way|the same|everything|"
    r"the (?:solutions|results|remainders|answers|probabilities|totals) (?:are|add|sum))",
    r"(?:there (?:are|is)|i (?:have|found)) no (?:other|more)",
    r"(?:three|four|five|several) times",
)
"""Starts a line that combines the results of several parts."""

TOTAL = _at_start(
    rf"{_SO}(?:total|adding|summing|together|finally|"
    r"the (?:sum|total|difference|answer|solutions?|results?|remainders))"
)
"""Starts a line that combines results, possibly only those of its part."""

JOIN_ANYWHERE = _anywhere(
    "match(?:es)?",
    "agrees?",
    "consistent with",
    "same (?:as before|value|result|answer|thing|number)",
    "both (?:ways|methods|approaches|cases)",
    "(?:final|the) answer is",
    "in any case",
    "again",
    "each time",
    "every time",
    "altogether",
    "none of (?:the|these|them|those)",
    "in total,",
    "casework",
)

SETTLED = _at_start(r"(?:ok|okay|nice|great|good|yes|perfect|fine|cool|exactly|right|excellent)(?=\s*[,.!:])")
"""Starts a line that accepts the result so far."""

TURN = _at_start(
    r"(?:(?:but|ok|okay|so|and|yes|no),?\s+)?(?:wait|hold on|hmm+|actually|therefore|oh|ah|aha)",
    r"(?:let me|let's|let us|i(?:'ll| will| should)|to)\s+(?:just\s+|also\s+|quickly\s+)?"
    r"(?:double[- ]?check|check|verify|cross-?check|confirm|re-?check|recount|recompute|make sure|be sure|sanity|"
    r"plug|list them|go over)",
    r"(?:plug|check)(?:ging|ing)? (?:in to|it|this|back|the)",
)
"""Starts a line in which the author looks back at earlier results."""

DOUBTS = _at_start(
    r"(?:(?:but|ok|okay|so|and|yes|wait|hold on|hmm+|actually|now|just)[\s,.]+)*"
    r"(?:(?:let me|let's|let us|i(?:'ll| will| should| need to| want to)|to|just to|maybe i should)\s+"
    r"(?:just\s+|also\s+|quickly\s+)*"
    r"(?:double[- ]?check|check|verify|cross[- ]?check|confirm|re-?check|make sure|be (?:sure|thorough|safe)|sanity|"
    r"think (?:again|about (?:this|that|it))|test (?:this|that|it)|validate)|"
    r"does (?:this|that|it) (?:make sense|work|seem)|is (?:this|that|it) (?:right|correct|possible|true)|"
    r"another check|a (?:quick )?(?:sanity )?check)",
)
"""Starts a line in which the author wants to check a result."""

SEES_WHETHER = _at_start(r"(?:let me|let's|let us|i'll|we'll) see (?:if|whether)")
"""Starts a line that announces a comparison."""

RECAPS = _anywhere(
    "(?:my|the|these|those|each|all|our) (?:\\w+ )?(?:steps?|calculations?|work|reasoning|computations?)",
    "re-?(?:calculate|compute|do|trace|view|cap)",
    "recap",
    "go(?:ing)? (?:back )?over",
    "walk through",
)
"""Goes through earlier calculations once more."""

NEW_THOUGHT = _at_start(
    r"(?:(?:okay|ok|alright|so|now|and|hmm),?\s+)?"
    r"(?:let me|let's|let us|first|next|now|finally|step|method|approach|option|one way)",
)
"""Starts a new thought within plain reasoning."""

ASKS = _at_start(r"(?:(?:and|but|so|ok|okay|hmm),?\s+)?(?:(?:how|what) about|what if)")
"""Starts a question that opens another search, such as "How about a difference of 2?"."""

COLLECTS = re.compile(
    r"(?:so|therefore|thus|hence|now),?\s+(?:(?:we|i)\s+(?:now\s+)?(?:have|know|get)|(?:the|our)\s+\w+\s+are)"
    r"(?:\s[^.:\n]{1,40})?:\s*(?:\n|$)",
    re.IGNORECASE,
)
"""Starts a list of what several parts came to, such as "So, we have:" and equations."""

CONCLUSION = _at_start("so", "thus", "therefore", "hence", "then", "the answer")
"""Starts a line that summarises everything if the boxed answer follows."""

COMPUTES = re.compile(r"[=\u2261\u2264\u2265\u2248]|\d\s+[-+*/:\u00d7\u00b7]\s+\d")
"""Occurs in lines that compute something."""

BACK_REFERENCE = _anywhere(
    "similar to",
    "same(?=[.,;]|$)",
    "same [\\w ]{1,30} as",
    "like (?:the )?(?:case|option|part|step|above)",
    "previous(?:ly)?",
    "above",
    "earlier",
    "before",
    "as in",
    "same (?:as|way|argument|reasoning|method|count|idea)",
    "the same",
    "similarly",
    "likewise",
    "analogous(?:ly)?",
    "by symmetry",
    "symmetric(?:al)?(?:ly)?",
    "already (?:counted|found|seen|know|computed|had|have)",
    "so far",
    "(?:i|we)(?:'ve| have)? (?:found|got|saw|computed|calculated|obtained|just|derived|counted|showed)",
    "that result",
    "this result",
    "the result",
    "(?:in|from|of|to|as|than|with) (?:case|part|step|method|option|pattern) \\w+",
    "the (?:first|second|other|last|former|latter) (?:case|method|part|result|option|approach|sum|count|"
    "assumption|possibility|scenario|supposition|attempt|try|value)",
    "the only (?:one|possible|possibility|solution|value|way)",
    "the (?:other|former|latter) one",
    "not yet",
    "left over",
    "otherwise",
    "instead",
    "still",
    "then again",
    "recall",
    "remember",
)
"""Refers to something outside its own step."""

FEEDBACK = _anywhere(
    "still",
    "too (?:small|big|large|few|many|low|high|much|little|short|long)",
    "(?:must|should|has to|have to) be (?:larger|smaller|bigger|more|less|higher|lower|greater)",
    "need (?:more|fewer|less|bigger|larger|smaller|higher|lower)",
    "go (?:up|down|higher|lower)",
    "closer?",
    "lies between",
)
"""Says where to try next, so the next trial depends on it."""

TRANSITION = _at_start("similarly", "likewise", "next", "now")
"""Starts a line inside of a part that prepares the next one."""

INSIGHT = _anywhere(
    "notice",
    "(?:a|the|this) pattern",
    "realiz\\w*",
    "realis\\w*",
    "mistake",
    "forgot",
    "mis(?:read|took|counted|calculated)",
    "so (?:i|we) need",
    "in general",
    "from now on",
    "keep in mind",
    "remember",
    "every other case",
    "the other cases",
)
"""May change what later siblings do."""


TRANSFORMS = re.compile(
    r"(?:\w+,?\s+)?(?:(?:maybe|perhaps)\s+)?(?:we|i|you|one|let's|let me|let us)\s*(?:can|could|might|"
    r"may)?\s*(?:also\s+|just\s+)?"
    r"(?:re)?(?:write|arrange|express|factor|simplify|expand|think of|represent|state|put|phrase|see|note|"
    r"notice|observe|say)\b",
    re.IGNORECASE,
)
"""Starts another form of what was just written, such as "Alternatively, we can write:"."""

POINTS_BACK = re.compile(
    r"(?:\S+\s+){0,7}?(?:(?<!\w)(?:this|these|those|it|them|its|they|that one)\b(?!\s+(?:the|there|a|an)\b)|"
    r"(?<!see )(?<!say )\bthat(?:'s)?\b(?=[.,:]|\s+(?:is|was|same|value|result|approach|way|equation))|"
    r"\bthe (?:equation|expression|value|values|result|results|answer|formula|solution|solutions|roots?|"
    r"simplified|expanded|"
    r"factored|reduced|coordinates?|calculations?|same)\b(?!\s+(?:of|for|is|in|given|[$\\(|]|\w?\()))|"
    r".*\b(?:such|verif\w+|check\w*|confirm\w*|we have|i have|we found|i found|as well|too)\b",
    re.IGNORECASE,
)
"""Matches an opening that is about something which was written before."""

LOOKS_BACK = _anywhere(
    "previous(?:ly)?",
    "above",
    "earlier",
    "as before",
    "same (?:as|result|answer|value|thing|conclusion)",
    "already (?:counted|found|seen|know|computed|had|have|calculated|established)",
    "so far",
    "(?:i|we)(?:'ve| have)? (?:found|got|saw|computed|calculated|obtained|derived|counted|showed|had)",
    "that result",
    "the (?:first|second|other|last|former) (?:method|approach|way)",
    "again",
    "the only (?:one|possibility|solution)",
)
"""Occurs in a line of a second way that needs the first."""

AGREES = re.compile(
    r"(?<!\w)(?:same (?:as|result|answer|value|thing|number|conclusion)|match(?:es|ing)?|agrees?|confirm(?:s|ed)?|"
    r"checks out|(?:that's|that is|is) (?:indeed )?(?:correct|right))(?!\w)|^(?:so,? )?(?:yes|yep|yeah)\b",
    re.IGNORECASE,
)
"""Occurs in a line that finds two results to be the same."""

COMPARES = _anywhere(
    "same(?=[.,;!]|$)|same (?:as|result|answer|value|thing|number|conclusion|outcome)",
    "match(?:es|ing)?",
    "agrees?",
    "consistent with",
    "both (?:ways|methods|approaches|arguments|results|answers|calculations|agree|give|lead|confirm|yield|show|work)",
    "earlier",
    "previous(?:ly)?",
    "confirm(?:s|ed|ing)?",
    "as before",
    "(?:that's|that is|is|it's) (?:indeed )?(?:correct|right)",
    "checks out",
    "as expected",
    "indeed",
    "^(?:so,? )?(?:yes|yep|yeah)",
    "the (?:first|other|initial) (?:method|approach|way)",
    "either way",
    "all (?:\\w+ )?(?:methods|approaches|ways|checks)",
    "all of (?:these|them)",
    "final answer",
    "i'm (?:confident|sure|certain|convinced)",
    "confident",
)
"""Occurs in a line that compares a second way with the first."""


def is_join(line: str) -> bool:
    """Tell whether a line combines several results.

    >>> is_join("So in total 33 + 33 = 66."), is_join("So 33.")
    (True, False)
    """
    return JOIN.match(line) is not None or JOIN_ANYWHERE.search(line) is not None


def is_total(line: str) -> bool:
    """Tell whether a line combines results, of one part or of several parts.

    >>> is_total("The sum is 16 + 5 + 1 = 22."), is_join("The sum is 16 + 5 + 1 = 22.")
    (True, False)
    """
    return TOTAL.match(line) is not None
