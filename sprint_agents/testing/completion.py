"""Requests for engines in tests, and whole completions."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import cast

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Engine, Finish, Request, Sampling, TokenLogprob

COMPLETION_TOKENS = 8
"""The length in tokens of a completion in these tests, unless it stops earlier."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Completion:
    """All chunks of one completion.

    >>> Completion((Chunk([5], "a"), Chunk([6], "b", Finish("length", None, 1, 0)))).text
    'ab'
    """

    chunks: tuple[Chunk, ...]

    @property
    def ids(self) -> list[int]:
        """The token ids of all chunks."""
        return [token for chunk in self.chunks for token in chunk.ids]

    @property
    def text(self) -> str:
        """The text of all chunks."""
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def tokens(self) -> int:
        """The number of tokens: the server's count, from engines whose ids are not tokens."""
        counted = self.finish.generated_tokens
        return len(self.ids) if counted is None else counted

    @property
    def logprobs(self) -> list[TokenLogprob]:
        """The log-probabilities of all chunks."""
        return [each for chunk in self.chunks for each in chunk.logprobs]

    @property
    def finish(self) -> Finish:
        """The finish of the last chunk.

        Raises:
            AssertionError: the last chunk has none, or an earlier chunk has one.

        """
        *earlier, last = self.chunks or (Chunk((), ""),)
        expect(last.finish is not None, "the last chunk has no finish")
        expect(all(chunk.finish is None for chunk in earlier), "a chunk before the last one has a finish")
        return cast("Finish", last.finish)


def request_of(
    context: Context,
    *,
    max_tokens: int = COMPLETION_TOKENS,
    request_id: str | None = None,
    sampling: Sampling | None = None,
    stop_ids: Iterable[int] = (),
    stop_texts: tuple[str, ...] = (),
) -> Request:
    """Make a request with a new id; greedy, unless you give ``sampling``."""
    return Request(
        id=request_id or f"contract-{next(_numbers)}-",
        context=context,
        max_tokens=max_tokens,
        sampling=sampling or Sampling(temperature=0),
        stop_ids=frozenset(stop_ids),
        stop_texts=stop_texts,
    )


async def complete(engine: Engine, request: Request) -> Completion:
    """Read the whole completion of ``request``."""
    return Completion(tuple([chunk async for chunk in engine.complete(request)]))


def expect(condition: bool, broken: str) -> None:
    """Raise AssertionError with the message ``broken`` unless ``condition``."""
    if not condition:
        raise AssertionError(broken)
