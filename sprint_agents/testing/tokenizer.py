"""The tokenizer of the fake engine: it encodes any text exactly and needs no files.

A token is a part of one of the dialect's tags, a word with one space before it, a run of white space, or one other
character. Every character belongs to one of these, so the joined tokens of a text are the text. Ids are assigned in the
order in which tokens first occur.
"""

import re
from collections.abc import Sequence

from sprint_agents.errors import InvalidRequest

END_ID = 0
"""The id of the end token."""


class _Vocabulary(dict[str, int]):
    """Maps words to ids; looking up an unknown word assigns it the next id."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self.words)
        self.words.append(word)
        return number


class WordTokenizer:
    """Encodes and decodes with a growing vocabulary; ``end`` and each text in ``special`` are single tokens.

    >>> tokenizer = WordTokenizer(special=("</Plan_",), end="")
    >>> [tokenizer.decode([token]) for token in tokenizer.encode("two words</Plan_1>")]
    ['two', ' words', '</Plan_', '1', '>']
    """

    __slots__ = ("_split", "_vocabulary")

    def __init__(self, *, special: Sequence[str], end: str) -> None:
        self._vocabulary = _Vocabulary()
        # Longest first: of two special texts that begin alike, the longer one matches.
        texts = sorted(filter(None, (end, *special)), key=len, reverse=True)
        self._split = re.compile("|".join([*map(re.escape, texts), r" ?\w+", r"\s+", r"[^\w\s]"])).findall
        for text in (end, *special):
            self._vocabulary[text]

    def __len__(self) -> int:
        """Count the assigned ids, which are 0 up to here."""
        return len(self._vocabulary)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``, in time linear in its length."""
        return list(map(self._vocabulary.__getitem__, self._split(text)))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``.

        Raises:
            InvalidRequest: an id was never assigned.

        """
        self.check(ids)
        return self.text(ids)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of ids that are known to be valid."""
        return "".join(map(self._vocabulary.words.__getitem__, ids))

    def check(self, ids: Sequence[int]) -> None:
        """Raise InvalidRequest if one of ``ids`` was never assigned."""
        if ids and (max(ids) >= len(self) or min(ids) < 0):
            wrong = next(token for token in ids if not 0 <= token < len(self))
            raise InvalidRequest(
                f"token id {wrong} is outside the vocabulary of {len(self)} tokens: "
                "build contexts from the ids that this engine's encode and completions returned"
            )
