"""The values that a scanner finds, the objects and arrays that it is in, and the characters between them."""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

NAME = re.compile(r"[A-Za-z_$][\w$-]*")
"""A key without quotes."""
_BLANK = re.compile(r"\s*")

Path = tuple[str | int, ...]
"""The keys and positions that lead from the root to a value."""

Kind = Literal["object", "array", "string", "word"]
"""The form of a value; a word is a number, a literal, or a text without quotes."""


class Value(NamedTuple):
    """A complete value; ``path`` is ``()`` for the root, which begins at offset ``root``.

    Offsets count the characters of the whole text. ``rest`` closes the value where the end of the text cut it off.
    """

    path: Path
    kind: Kind
    root: int
    start: int
    end: int
    rest: str = ""

    @property
    def content(self) -> tuple[int, int]:
        """Where its content starts and ends, without the quotes of a string."""
        quoted = self.kind == "string"
        return self.start + quoted, self.end - (quoted and not self.rest)


@dataclass(slots=True)
class Container:
    """An open object or array, and what it expects next; an array always expects a value."""

    closer: Literal["}", "]"]
    start: int
    expects: Literal["key", "colon", "value"]
    key: str = ""
    count: int = 0
    separated: bool = True

    @property
    def position(self) -> str | int:
        """The key or the index of the next value."""
        return self.key if self.closer == "}" else self.count


def promises(container: Container, character: str) -> bool:
    """Say whether a value may still become JSON, before its first colon."""
    if container.expects == "key":
        return character in "\"'“#/" or NAME.match(character) is not None
    return character == (":" if container.closer == "}" else "{")


def after_blanks(buffer: str, at: int) -> int:
    """Return the place after the white space at ``at``."""
    blank = _BLANK.match(buffer, at)
    return blank.end() if blank else at


def growing(text: str, mark: str) -> int:
    """Return how many characters at the end of ``text`` may become ``mark``."""
    start = text.find(mark[0], max(0, len(text) - len(mark) + 1))
    while start >= 0 and not mark.startswith(text[start:]):
        start = text.find(mark[0], start + 1)
    return len(text) - start if start >= 0 else 0
