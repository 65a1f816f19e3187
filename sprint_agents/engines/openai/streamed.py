"""The text of one completion while it arrives: the stop that ends it, its estimated tokens, and its last chunk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sprint_agents.engine import Chunk, Finish, Request

from .conversation import MARKS, decode, encode, unmarked
from .events import CHARACTERS_PER_TOKEN, TokenCounts, believable


def names_of_stops(request: Request) -> dict[str, int | str]:
    """Return the text of each stop with its name in a ``Finish``. No model writes a mark, so a mark cannot stop it."""
    names: dict[str, int | str] = {decode([stop]): stop for stop in sorted(request.stop_ids)}
    names |= {text: text for text in request.stop_texts if text}
    return {text: name for text, name in names.items() if not MARKS & set(text)}


class StopWatch:
    """Finds the first of several stop texts in a text that arrives in pieces.

    The engine needs it for servers that do not accept a stop, or do not say which one they met.

    >>> watch = StopWatch(["</a>"])
    >>> watch.feed("one </"), watch.feed("a> two"), watch.found
    ('one </', 'a>', '</a>')
    """

    __slots__ = ("_longest", "_stops", "_tail", "found")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._tail = ""
        self.found: str | None = None

    def feed(self, text: str) -> str:
        """Return ``text`` up to the end of the first stop in it; all of it if there is none."""
        if not self._longest or not text:
            return text
        # A stop may begin in an earlier piece: with the tail "one </" and the new text "a> two", "</a>" ends 2
        # characters into the new text.
        window = self._tail + text
        ends = [(at + len(stop), -len(stop), stop) for stop in self._stops if (at := window.find(stop)) >= 0]
        if ends:
            end, _, self.found = min(ends)
            return text[: end - len(self._tail)]
        self._tail = window[len(window) - self._longest + 1 :] if len(window) >= self._longest else window
        return text


@dataclass(slots=True)
class StreamedText:
    """One completion of a request for ``max_tokens``, whose ids are characters.

    Attributes:
        stops: all stop texts with their names in a ``Finish``.
        prompt_tokens: an estimate, used if the server does not count.
        note: receives a sentence about something odd.
        characters: how many have arrived, hidden ones too.
        tokens: an estimate of their tokens.
    """

    stops: Mapping[str, int | str]
    max_tokens: int
    prompt_tokens: int
    note: Callable[[str], None]
    characters: int = 0
    tokens: int = 0
    _watch: StopWatch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = StopWatch(tuple(self.stops))

    @property
    def stop(self) -> str | None:
        """The stop text that ended the text, once it has arrived."""
        return self._watch.found

    def add(self, text: str) -> Chunk:
        """Return a chunk of the next text, up to the end of a stop."""
        text = self._watch.feed(unmarked(text))
        return Chunk(encode(text), text, tokens=self._estimate(len(text)))

    def hide(self, characters: int, *, reasoning: str = "") -> Chunk:
        """Return a chunk without text for generated characters that are not part of it, ``reasoning`` included."""
        return Chunk((), "", tokens=self._estimate(characters + len(reasoning)), reasoning=reasoning)

    def last(
        self, text: str, reason: Literal["stop", "length"], stop: str | None = None, *, usage: TokenCounts | None
    ) -> Chunk:
        """Return the last chunk, with the rest of the text and the counts; ``stop`` is the stop text that ended it."""
        usage, tokens, prompt = usage or TokenCounts(), self.tokens, self.prompt_tokens
        # A server may count nothing, or less than it sent. Then our own estimates count, so that budgets hold.
        if usage.completion_tokens is not None:
            if believable(usage.completion_tokens, self.characters):
                tokens = usage.completion_tokens
            else:
                self.note("the usage counts fewer tokens than can have arrived, so they were estimated")
        if usage.prompt_tokens and believable(usage.prompt_tokens, prompt * CHARACTERS_PER_TOKEN):
            prompt = usage.prompt_tokens
        matched = None if stop is None else self.stops[stop]
        # Servers that do not count reasoning say that there was none.
        reasoning = min(usage.reasoning_tokens, tokens) if usage.reasoning_tokens else None
        finish = Finish(reason, matched, prompt, min(usage.cached_tokens, prompt), tokens, reasoning_tokens=reasoning)
        return Chunk(encode(text), text, finish)

    def _estimate(self, characters: int) -> int:
        """Estimate the tokens of some characters, and add them to the count, but never beyond the limit."""
        self.characters += characters
        tokens = min(max(1, characters // CHARACTERS_PER_TOKEN), self.max_tokens - self.tokens)
        self.tokens += tokens
        return tokens
