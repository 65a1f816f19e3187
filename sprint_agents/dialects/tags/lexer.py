"""Cut a stream of text into tags and the text between them.

Invariants:

- The pieces, joined, are the text. The tags do not depend on where the chunks were cut.
- A tag comes out with the chunk that holds its last character. Only characters that may still become a tag are held
  back, fewer than the longest tag has. So a chunk costs time in proportion to its own length.

Accepted besides the exact tags, and marked as not ``exact``: another case (``<plan_1>``), up to two blanks around a
number (``<Plan_ 1>``, as tokenizers with special tokens decode it), and a closing tag cut short after its constant
first part (``</Plan_``), where a completion stops.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from .format import TagPair, Tags

TagName = Literal["plan", "prompt", "executions", "execution", "answer", "chain"]
"""The tags of the format."""

_NAMES: tuple[TagName, ...] = ("plan", "prompt", "executions", "execution", "answer", "chain")
_FIELD = re.compile(r"\{(?:stage|number)\}")
_NUMBER = re.compile("[0-9]+")
_DIGITS = "[0-9]{1,9}"
_BLANKS = "[ \\t]{0,2}"


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag, found from offset ``start`` up to ``end``.

    ``numbers`` are the numbers in it. It is ``complete`` unless it is a closing tag that was cut short, and ``exact``
    if it matches its template exactly.
    """

    name: TagName
    closing: bool
    numbers: tuple[int, ...]
    text: str
    start: int
    end: int
    complete: bool
    exact: bool


class Lexer:
    """Read a text in chunks; each call returns the pieces that became certain: tags, and text between them.

    >>> from sprint_agents.dialects.tags.format import load_tags
    >>> lexer = Lexer(load_tags())
    >>> pieces = [*lexer.feed("So <pro"), *lexer.feed("mpt_1.1>a <b"), *lexer.feed("</Plan_"), *lexer.close()]
    >>> [piece if isinstance(piece, str) else (piece.name, piece.numbers, piece.start, piece.end) for piece in pieces]
    ['So ', ('prompt', (1, 1), 3, 15), 'a <b', ('plan', (), 19, 26)]
    """

    __slots__ = ("_grammar", "_held", "_offset")

    def __init__(self, tags: Tags) -> None:
        self._grammar = _grammar((tags.plan, tags.prompt, tags.executions, tags.execution, tags.answer, tags.chain))
        self._held = ""
        self._offset = 0

    @property
    def held(self) -> str:
        """The end of the text that may still become a tag."""
        return self._held

    def feed(self, text: str) -> list[str | Tag]:
        """Read the next chunk."""
        buffer = self._held + text
        last = buffer.rfind("<")
        # A tag has one "<", so only the text after the last one can still become a tag.
        growing = last >= 0 and self._grammar.growing.fullmatch(buffer, last) is not None
        cut = last if growing else len(buffer)
        self._held = buffer[cut:]
        return self._pieces(buffer, cut)

    def close(self) -> list[str | Tag]:
        """End the text: the characters held back are a closing tag cut short, or text."""
        buffer, self._held = self._held, ""
        return self._pieces(buffer, len(buffer))

    def _pieces(self, buffer: str, cut: int) -> list[str | Tag]:
        pieces: list[str | Tag] = []
        position = 0
        for match in self._grammar.tag.finditer(buffer, 0, cut):
            if match.start() > position:
                pieces.append(buffer[position : match.start()])
            pieces.append(self._tag(match))
            position = match.end()
        if position < cut:
            pieces.append(buffer[position:cut])
        self._offset += cut
        return pieces

    def _tag(self, match: re.Match[str]) -> Tag:
        assert match.lastgroup is not None
        form = self._grammar.forms[match.lastgroup]
        text = match.group()
        numbers = tuple(int(number) for number in _NUMBER.findall(text))
        return Tag(
            name=form.name,
            closing=form.closing,
            numbers=numbers,
            text=text,
            start=self._offset + match.start(),
            end=self._offset + match.end(),
            complete=form.complete,
            exact=form.complete and text == _written(form.template, numbers),
        )


@dataclass(frozen=True, slots=True)
class _Form:
    """One alternative of the grammar."""

    name: TagName
    closing: bool
    complete: bool
    template: str


@dataclass(frozen=True, slots=True)
class _Grammar:
    """``tag`` matches a tag, its last group naming the form; ``growing`` matches the beginning of a tag."""

    tag: re.Pattern[str]
    growing: re.Pattern[str]
    forms: Mapping[str, _Form]


@cache
def _grammar(pairs: tuple[TagPair, ...]) -> _Grammar:
    complete: list[str] = []
    truncated: list[str] = []
    growing: list[str] = []
    forms: dict[str, _Form] = {}
    for name, pair in zip(_NAMES, pairs, strict=True):
        for template in pair:
            closing = template == pair.close
            atoms = _atoms(template)
            group = f"g{len(forms)}"
            forms[group] = _Form(name, closing, True, template)
            complete.append(f"(?P<{group}>(?i:{''.join(atoms)}))")
            growing.append(f"(?i:{_beginning(atoms[:-1])})")
            head = _FIELD.split(template)[0]
            if closing and head != template:
                # The case must match here: without a number, only it distinguishes </Execution_ from </execution_.
                group = f"g{len(forms)}"
                forms[group] = _Form(name, closing, False, template)
                truncated.append(f"(?P<{group}>{re.escape(head)}(?:{_beginning(atoms[len(head) : -1])})?)")
    return _Grammar(re.compile("|".join(complete + truncated)), re.compile("|".join(growing)), forms)


def _atoms(template: str) -> list[str]:
    """Split a tag into regular expressions, each for one character or a part of a number."""
    first, *others = _FIELD.split(template)
    atoms = [re.escape(character) for character in first]
    for literal in others:
        atoms += [_BLANKS, _DIGITS, _BLANKS, *(re.escape(character) for character in literal)]
    return atoms


def _beginning(atoms: Sequence[str]) -> str:
    """Build the expression for any non-empty beginning of a text that ``atoms`` match one after the other."""
    return "(?:".join(atoms) + ")?" * (len(atoms) - 1)


def _written(template: str, numbers: Iterable[int]) -> str:
    """Fill the numbers into ``template``, from left to right."""
    remaining = iter(numbers)
    return _FIELD.sub(lambda _: str(next(remaining)), template)
