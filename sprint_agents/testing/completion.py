"""Where a scripted completion ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sprint_agents.engine import Request

from .tokens import END_ID, WordTokenizer


@dataclass(frozen=True, slots=True)
class Completion:
    """All that a request is sent, and why it ends there (``Finish``)."""

    ids: tuple[int, ...]
    reason: Literal["stop", "length"]
    matched: int | str | None


def cut(ids: Sequence[int], request: Request, *, most: int, tokenizer: WordTokenizer) -> Completion:
    """End ``ids`` after the first stop of ``request``, the end token at the latest, or after ``most`` tokens.

    Stops are kept, and a stop text is kept with all of the token that completes it. Of a stop id and a stop text
    that end together, the id is reported.
    """
    stop_ids = request.stop_ids
    ended = (*ids, END_ID)
    length, matched = 0, END_ID
    for length, matched in enumerate(ended, 1):  # noqa: B007
        if matched in stop_ids or matched == END_ID:
            break
    if request.stop_texts:
        words = [tokenizer.text((token,)) for token in ended[:length]]
        text = "".join(words)
        for stop in request.stop_texts:
            at = text.find(stop)
            if at >= 0 and (count := _tokens_over(words, at + len(stop))) < length:
                length, matched = count, stop
    if length > most:
        return Completion(ended[:most], "length", None)
    return Completion(ended[:length], "stop", matched)


def _tokens_over(words: Sequence[str], characters: int) -> int:
    """How many of ``words`` it takes to cover ``characters``."""
    count = 0
    while characters > 0:
        characters -= len(words[count])
        count += 1
    return count
