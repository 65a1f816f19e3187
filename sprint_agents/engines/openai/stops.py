"""Stop texts in a stream: found on this side where a server does not take them, or does not say which it met."""

from collections.abc import Sequence


class StopWatch:
    """Looks for the first of several texts in a text that arrives in pieces.

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
        """Return ``text`` up to the end of the first stop in it, and all of it where there is none."""
        if not self._longest or not text:
            return text
        window = self._tail + text
        ends = [(at + len(stop), -len(stop), stop) for stop in self._stops if (at := window.find(stop)) >= 0]
        if ends:
            end, _, self.found = min(ends)
            return text[: end - len(self._tail)]
        self._tail = window[len(window) - self._longest + 1 :] if len(window) >= self._longest else window
        return text
