"""The tokens of a completion that are tags."""

from sprint_agents.dialects.completions import PlanReader
from sprint_agents.generation import Generation


class TagTokens:
    """Counts the tokens of tags up to growing offsets of a completion, each tag once."""

    __slots__ = ("_count", "_next", "_reader")

    def __init__(self, reader: PlanReader) -> None:
        self._reader = reader
        self._next = 0
        self._count = 0

    def before(self, generation: Generation, offset: int) -> int:
        """Count the tokens of all tags that end at or before ``offset``, which must not fall from call to call."""
        spans = self._reader.spans
        while self._next < len(spans) and spans[self._next].end <= offset:
            tag = spans[self._next]
            self._count += generation.tokens_before(tag.end) - generation.tokens_before(tag.start)
            self._next += 1
        return self._count
