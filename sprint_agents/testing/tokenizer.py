"""The tokenizer of the fake engine: it encodes any text exactly and needs no files.

A token is a part of one of the dialect's tags, a word with one space before it, a run of white space, or one other
character; words and runs are split after 32 characters. Every character belongs to one of these, so the joined tokens
of a text are the text.

Invariant: an id is the token's own UTF-8 bytes, read as a number. So no two tokens share an id, every process has the
same ids, and an id can be decoded by an engine that has not seen its text.
"""

import re
from collections.abc import Sequence

from sprint_agents.errors import InvalidRequest
from sprint_agents.markup import spans_of

END_ID = 0
"""The id of the end token."""

_MARK = b"\x01"
"""Precedes the bytes of a token, so that leading zero bytes count."""


class _Ids(dict[str, int]):
    """Maps tokens to ids; remembers those that it has made."""

    def __missing__(self, token: str) -> int:
        number = self[token] = int.from_bytes(_MARK + token.encode("utf-8", "surrogatepass"), "big")
        return number


class _Words(dict[int, str]):
    """Maps ids to tokens; remembers those that it has decoded."""

    def __init__(self, split: re.Pattern[str]) -> None:
        super().__init__()
        self._split = split

    def __missing__(self, number: int) -> str:
        word = _decode(number)
        if word is None or self._split.fullmatch(word) is None:
            raise InvalidRequest(
                f"token id {number} is outside the vocabulary: "
                "build contexts from the ids that this engine's encode and completions returned"
            )
        self[number] = word
        return word


def _decode(number: int) -> str | None:
    """Return the text whose bytes are ``number``; None if there is none."""
    if number <= 0:
        return None
    content = number.to_bytes((number.bit_length() + 7) // 8, "big")
    try:
        return content[1:].decode("utf-8", "surrogatepass") if content.startswith(_MARK) else None
    except UnicodeDecodeError:
        return None


class WordTokenizer:
    """Encodes and decodes any text; in markup, ``end`` and each text in ``special`` are single tokens.

    >>> from sprint_agents.markup import markup
    >>> tokenizer = WordTokenizer(special=("</Plan_",), end="")
    >>> [tokenizer.decode([token]) for token in tokenizer.encode("two words" + markup("</Plan_1>"))]
    ['two', ' words', '</Plan_', '1', '>']
    >>> tokenizer.encode("a") == WordTokenizer(special=(), end="").encode("a") == [0x0161]
    True
    """

    __slots__ = ("_ids", "_special", "_split", "_words")

    def __init__(self, *, special: Sequence[str], end: str) -> None:
        # Longest first: of two special texts that begin alike, the longer one matches.
        texts = sorted(filter(None, (end, *special)), key=len, reverse=True)
        plain = r" ?\w{1,32}|\s{1,32}|[^\w\s]"
        self._special = re.compile("|".join(map(re.escape, texts)) or "(?!)")
        self._split = re.compile(plain).findall
        self._ids = _Ids({end: END_ID})
        self._words = _Words(re.compile("|".join([*map(re.escape, texts), plain])))
        self._words[END_ID] = end

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``, in time linear in its length."""
        plain, words, position = str(text), list[str](), 0
        for start, end in spans_of(text):
            for special in self._special.finditer(plain, start, end):
                words += [*self._split(plain[position : special.start()]), special.group()]
                position = special.end()
        return list(map(self._ids.__getitem__, words + self._split(plain[position:])))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``.

        Raises:
            InvalidRequest: an id is not that of a token.

        """
        return "".join(map(self._words.__getitem__, ids))

    def check(self, ids: Sequence[int]) -> None:
        """Raise InvalidRequest if one of ``ids`` is not that of a token."""
        if not all(map(self._words.__contains__, ids)):
            self.decode(ids)
