"""The fake's tokenizer: words as tokens, any text exactly, no files.

A token is a tag part of the dialect, a word with the one space before it, a run of white space, or one other
character; every character falls in one of these, so the tokens of a text joined are the text. Ids are given in the
order in which words are first met.
"""

import re
from collections.abc import Sequence

from sprint_agents.errors import InvalidRequest

END_ID = 0
"""The id of the end token."""


class _Vocabulary(dict[str, int]):
    """Word to id; looking up an unknown word gives it the next id."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self.words)
        self.words.append(word)
        return number


class WordTokenizer:
    """Encode and decode with a vocabulary that grows; each text of ``special`` is one token, and so is ``end``.

    >>> tokenizer = WordTokenizer(special=("</Plan_",), end="")
    >>> [tokenizer.decode([token]) for token in tokenizer.encode("two words</Plan_1>")]
    ['two', ' words', '</Plan_', '1', '>']
    """

    __slots__ = ("_split", "_vocabulary")

    def __init__(self, *, special: Sequence[str], end: str) -> None:
        self._vocabulary = _Vocabulary()
        # Longest first: where one special text starts another, the longer one is meant.
        texts = sorted(filter(None, (end, *special)), key=len, reverse=True)
        self._split = re.compile("|".join([*map(re.escape, texts), r" ?\w+", r"\s+", r"[^\w\s]"])).findall
        for text in (end, *special):
            self._vocabulary[text]

    def __len__(self) -> int:
        """Count the ids given so far; valid ids are below it."""
        return len(self._vocabulary)

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``; O(characters)."""
        return list(map(self._vocabulary.__getitem__, self._split(text)))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``.

        Raises:
            InvalidRequest: an id that was never given.

        """
        self.check(ids)
        return self.text(ids)

    def text(self, ids: Sequence[int]) -> str:
        """Text of ids that are known to be valid."""
        return "".join(map(self._vocabulary.words.__getitem__, ids))

    def check(self, ids: Sequence[int]) -> None:
        """Raise InvalidRequest if one of ``ids`` was never given."""
        if ids and (max(ids) >= len(self) or min(ids) < 0):
            wrong = next(token for token in ids if not 0 <= token < len(self))
            raise InvalidRequest(
                f"token id {wrong} is outside the vocabulary of {len(self)} tokens: "
                "take the ids of a context from this engine's own encode and completions"
            )
