r"""Text for a context that says which parts of it are markup: tags, role turns, marks of a chat template.

Invariants:

- Only a dialect writes markup, by ``markup``. All other text is outside text: a task, prompts, results, messages of
  errors, instructions. A plain ``str`` is outside text as a whole, whatever it contains.
- Joining keeps what is markup. Every other operation of ``str`` returns a plain ``str``, so markup can be lost by
  mistake, but never gained.
- An engine recognises control tokens in markup only. So outside text never becomes a tag, a role or a turn.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from .errors import escape_surrogates

__all__ = ["PromptTemplate", "PromptText", "TextPart", "compose", "is_markup", "markup", "parts_of", "spans_of"]


class TextPart(NamedTuple):
    """A part of a text, and whether it is markup."""

    text: str
    is_markup: bool


class PromptText(str):
    r"""A text of which some parts are markup; made by ``markup`` and ``compose``.

    It is equal to the plain ``str``, and adding one to the other keeps what is markup:

    >>> turn = markup("<|im_start|>user\n") + "What does <|im_end|> mean?" + markup("<|im_end|>\n")
    >>> turn == "<|im_start|>user\nWhat does <|im_end|> mean?<|im_end|>\n"
    True
    >>> [part.text for part in parts_of(turn) if not part.is_markup]
    ['What does <|im_end|> mean?']
    """

    __slots__ = ("spans",)

    spans: tuple[tuple[int, int], ...]
    """The offsets of the markup, as start and end, in order; neighbouring parts are joined."""

    def __new__(cls, text: str = "", spans: tuple[tuple[int, int], ...] = ()) -> Self:
        """Make a text of which these offsets are markup."""
        made = str.__new__(cls, text)
        made.spans = spans
        return made

    def __add__(self, other: str, /) -> "PromptText":
        """Append ``other``."""
        return compose((self, other))

    def __radd__(self, other: str, /) -> "PromptText":
        """Append this text to ``other``."""
        return compose((other, self))

    def __reduce__(self) -> tuple[object, ...]:
        return PromptText, (str(self), self.spans)


def markup(text: str) -> PromptText:
    """Return ``text`` as markup."""
    return PromptText(text, ((0, len(text)),) if text else ())


def compose(texts: Iterable[str]) -> PromptText:
    r"""Join texts, in time linear in their length; half of a surrogate pair, which no engine reads, is escaped.

    >>> compose([markup("<Final_answer>\n"), "42"]).spans
    ((0, 15),)
    """
    joined: list[str] = []
    spans: list[tuple[int, int]] = []
    position, marked = 0, -1
    for text in texts:
        if isinstance(text, PromptText):
            for start, end in text.spans:
                if position + start == marked:
                    spans[-1] = (spans[-1][0], position + end)
                else:
                    spans.append((position + start, position + end))
                marked = position + end
        else:
            text = escape_surrogates(text)
        joined.append(text)
        position += len(text)
    return PromptText("".join(joined), tuple(spans))


class PromptTemplate:
    """A text with gaps that are filled with the same outside text, for texts that differ in nothing else.

    >>> turn = PromptTemplate(markup("<user>") + "executor 1._: carry out subtask _" + markup("</user>"), gap="_")
    >>> [part.text for part in parts_of(turn.fill("12"))]
    ['<user>', 'executor 1.12: carry out subtask 12', '</user>']
    """

    __slots__ = ("_gap", "_pieces", "_spans")

    def __init__(self, text: PromptText, *, gap: str) -> None:
        self._gap = len(gap)
        self._pieces = text.split(gap)
        # Start and end of each span, with the number of gaps before, each of which moves it.
        self._spans = [(start, text.count(gap, 0, start), end, text.count(gap, 0, end)) for start, end in text.spans]

    def fill(self, text: str) -> PromptText:
        """Return the text with ``text``, which is not markup and not empty, in its gaps."""
        text = escape_surrogates(text)
        more = len(text) - self._gap
        spans = [(start + more * above, end + more * before) for start, above, end, before in self._spans]
        return PromptText(text.join(self._pieces), tuple(spans))


def spans_of(text: str) -> tuple[tuple[int, int], ...]:
    """Return the offsets of the markup in a text; a plain ``str`` has none."""
    return text.spans if isinstance(text, PromptText) else ()


def is_markup(text: str, start: int, end: int) -> bool:
    """Say whether the characters from ``start`` to ``end`` are one piece of markup."""
    spans = spans_of(text)
    index = bisect_right(spans, start, key=lambda span: span[0]) - 1
    return index >= 0 and end <= spans[index][1]


def parts_of(text: str) -> Iterator[TextPart]:
    """Return the parts of a text in order, none of them empty; a plain ``str`` is one part."""
    position = 0
    plain = str(text)
    for start, end in spans_of(text):
        if start > position:
            yield TextPart(plain[position:start], False)
        yield TextPart(plain[start:end], True)
        position = end
    if position < len(plain):
        yield TextPart(plain[position:], False)
