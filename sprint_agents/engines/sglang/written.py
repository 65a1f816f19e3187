"""What a request has written so far, and the request that goes on behind it where its stream broke off.

A model that goes on behind its own tokens draws the next one as it would have, greedily or not. Invariants:

- The ids that have arrived stay as they are: the new request has them as the end of its context.
- A request goes on only where nothing is torn: a character whose bytes have not all arrived, a stop text of which only
  the beginning has, or the place in a schema, would be lost between two requests.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from sprint_agents.engine import Chunk, Request

Decode = Callable[[Sequence[int]], Awaitable[str]]


@dataclass(slots=True)
class Written:
    """The ids and texts that have arrived for ``request``, in ``parts`` requests."""

    request: Request
    parts: int = 1
    ids: list[int] = field(default_factory=list[int])
    _texts: list[str] = field(default_factory=list[str])

    def add(self, chunk: Chunk) -> Chunk:
        """Take note of ``chunk`` and return it."""
        self.ids += chunk.ids
        self._texts.append(chunk.text)
        return chunk

    async def rest(self, decode: Decode) -> Request | None:
        """Return the request for what is still to come, None where it cannot be one."""
        text, request = "".join(self._texts), self.request
        if not self.ids or request.schema is not None or _ends_within(text, request.stop_texts):
            return None
        # What the server still held back of the text, it shows only by the ids. Decoders drop a leading space.
        if (await decode(self.ids)).lstrip() != text.lstrip():
            return None
        self.parts += 1
        return replace(
            request,
            context=request.context.extend(self.ids, text),
            max_tokens=request.max_tokens - len(self.ids),
        )


def _ends_within(text: str, stops: Sequence[str]) -> bool:
    return any(text.endswith(stop[:length]) for stop in stops for length in range(1, len(stop)))
