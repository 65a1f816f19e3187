"""The tokenizer of the fake engine: it encodes any text exactly and needs no files.

A token is a part of one of the dialect's tags, a word with one space before it, a run of white space, or one other
character; words and runs are split after 32 characters. Every character belongs to one of these, so the joined tokens
of a text are the text.

Invariant: an id is the token's own UTF-8 bytes, read as a number. So no two tokens share an id, every process has the
same ids, and an id can be decoded by an engine that has not seen its text.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from sprint_agents.context import Context
from sprint_agents.errors import InvalidRequest
from sprint_agents.markup import spans_of

END_ID = 0
"""The id of the end token."""

_MARK = b"\x01"
"""Precedes the bytes of a token, so that leading zero bytes count."""


_ONE_TOKEN = re.compile(r"\w\w|\s\s| \w").match
"""Matches two characters that may be in one token."""

_BLANK_BEFORE_SPACE = re.compile(r"\s ").search


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

    __slots__ = ("_ids", "_special", "_split", "_text", "_word", "_words", "encode_markup", "own_text")

    def __init__(self, *, special: Sequence[str], end: str) -> None:
        # Longest first: of two special texts that begin alike, the longer one matches.
        texts = sorted(filter(None, (end, *special)), key=len, reverse=True)
        plain = r" ?\w{1,32}|\s{1,32}|[^\w\s]"
        self._special = re.compile("|".join(map(re.escape, texts)) or "(?!)")
        self._split = re.compile(plain).findall
        self._ids = _Ids({end: END_ID})
        self._words = _Words(re.compile("|".join([*map(re.escape, texts), plain])))
        self._words[END_ID] = end
        # Headers, words and the replies of a script are encoded again and again.
        self._text = lru_cache(maxsize=4096)(self._encode_text)
        self.encode_markup = lru_cache(maxsize=4096)(self._encode_markup)
        self._word = lru_cache(maxsize=4096)(self._encode)
        self.own_text = lru_cache(maxsize=4096)(self._own_text)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``, in time linear in its length."""
        return [*self._text(str(text), spans_of(text))]

    def _encode_text(self, plain: str, spans: Sequence[tuple[int, int]]) -> list[int]:
        ids, position = list[int](), 0
        for start, end in spans:
            if (start and _ONE_TOKEN(plain, start - 1)) or _ONE_TOKEN(plain, end - 1):
                return self._encode(plain, spans)
        for start, end in spans:
            ids += self._encode_outside(plain[position:start]) if start > position else ()
            ids += self.encode_markup(plain[start:end])
            position = end
        return ids + self._encode_outside(plain[position:]) if position < len(plain) else ids

    def _encode_outside(self, text: str) -> list[int]:
        """Encode text without markup, word by word."""
        if _BLANK_BEFORE_SPACE(text):
            return self._encode(text)
        first, *others = text.split(" ")
        ids = [*self._word(first)]
        for word in others:
            ids += self._word(f" {word}")
        return ids

    def _encode_markup(self, text: str) -> Sequence[int]:
        """Return the token ids of markup, and of what a model wrote, who may write any token."""
        return self._encode(text, ((0, len(text)),))

    def _encode(self, plain: str, spans: Sequence[tuple[int, int]] = ()) -> list[int]:
        """Encode a text as a whole; a token may begin outside of markup and end in it."""
        words, position = list[str](), 0
        for start, end in spans:
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

    def _own_text(self, context: Context) -> str:
        """Return the text of a context's own ids. Siblings have most contexts in common.

        Raises:
            InvalidRequest: an id is not that of a token.

        """
        return self.decode(context.own_ids)
