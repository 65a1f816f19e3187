"""One completion over several requests: each continues where the one before reached its limit.

Invariants:

- The reader sees one completion: its ids in order, and one finish, that of the last request.
- A request that continues a completion has all of its earlier tokens at the end of its context, so they are cached.
- Log-probabilities stay with their ids.
- A character or a stop text that begins in one request and ends in the next is found, whatever the engine decodes.
- Closing the stream closes the request that is active.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from .context import Context
from .engine import Chunk, Engine, Finish, Request
from .errors import ContextOverflow

Extend = Callable[[], Awaitable[int]]
"""Called when a request has reached its limit: returns how many more tokens the completion may have, 0 to end it."""

_INCOMPLETE = "\ufffd"


class Continuation:
    """Streams the completion of ``request``, and continues it for as long as ``extend`` grants more tokens.

    ``request_ids`` supplies the ids of the further requests. The engine needs ``Capabilities.continues``.

    Attributes:
        request_ids: of the requests that were sent so far.
        prompt_tokens: the context lengths of those that ended, added up; ``cached_tokens`` of them were cached.
    """

    __slots__ = ("_engine", "_extend", "_ids", "_request", "_retries", "cached_tokens", "prompt_tokens", "request_ids")

    def __init__(self, engine: Engine, request: Request, *, request_ids: Iterator[str], extend: Extend) -> None:
        self._engine = engine
        self._request = request
        self._ids = request_ids
        self._extend = extend
        self._retries = 0
        self.request_ids = [request.id]
        self.prompt_tokens = 0
        self.cached_tokens = 0

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """Stream the chunks of the whole completion.

        Raises:
            EngineError: what any of the requests raises, except that a context which is full ends the completion.
        """
        request, border, counted = self._request, _Border(self._engine, self._request), 0
        ended: Finish | None = None
        while True:
            piece = _Piece(request)
            try:
                stream = cast("AsyncGenerator[Chunk]", self._engine.complete(request))
                async with aclosing(stream):
                    async for arrived in stream:
                        chunk = await border.join(arrived)
                        piece.add(chunk)
                        if chunk.finish is not None:
                            counted += piece.tokens
                            ended = self._count(chunk.finish, counted)
                            if not piece.reached_limit:
                                yield replace(chunk, text=chunk.text + border.release(), finish=ended)
                                return
                            chunk = replace(chunk, finish=None)
                        yield chunk
            except ContextOverflow:
                if ended is None:
                    raise
                break
            if not piece.reached_limit or not (granted := await self._extend()):
                break
            # The stream of a request that reached its limit has ended, so at most one request is active.
            context = request.context.extend(piece.ids, piece.text)
            await border.cross(context)
            request = replace(
                self._request,
                id=next(self._ids),
                context=context,
                max_tokens=granted,
                continues=self._request,
            )
            self.request_ids.append(request.id)
        yield Chunk((), border.release(), ended)

    def _count(self, finish: Finish, tokens: int) -> Finish:
        self.prompt_tokens += finish.prompt_tokens
        self.cached_tokens += finish.cached_tokens
        self._retries += finish.retries
        generated = None if finish.generated_tokens is None else tokens
        return replace(finish, generated_tokens=generated, retries=self._retries)


class _Piece:
    """The part of a completion that one request has generated."""

    __slots__ = ("_limit", "_texts", "finish", "ids")

    def __init__(self, request: Request) -> None:
        self._limit = request.max_tokens
        self._texts: list[str] = []
        self.ids: list[int] = []
        self.finish: Finish | None = None

    def add(self, chunk: Chunk) -> None:
        self.ids += chunk.ids
        self._texts.append(chunk.text)
        self.finish = chunk.finish

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def tokens(self) -> int:
        counted = self.finish.generated_tokens if self.finish else None
        return len(self.ids) if counted is None else counted

    @property
    def reached_limit(self) -> bool:
        """Whether the request ended because of its ``max_tokens``, not where the model's context ends."""
        return self.finish is not None and self.finish.reason == "length" and self.tokens >= self._limit


class _Border:
    """Joins the text of a request to that of the one before it.

    An engine sees each request alone. It decodes the bytes at the end of one and at the beginning of the next as
    incomplete characters, and does not find a stop text that lies across. Example, with the stop text ``</a>``::

        first request    "… one <"  "/"
        second request              "a"  ">"  " two"

    The border remembers ``… one </``, finds ``</a>`` when ``>`` arrives, and ends the completion there.
    """

    __slots__ = (
        "_after",
        "_before",
        "_border",
        "_context",
        "_decoded",
        "_engine",
        "_held",
        "_ids",
        "_reach",
        "_recent",
        "_stops",
    )

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine = engine
        self._stops = request.stop_texts
        self._context = request.context
        # How far a stop text that crosses the border can reach to either side of it.
        self._reach = max(map(len, request.stop_texts), default=1) - 1
        self._ids: list[int] = []
        # The last characters of the completion; those before the border; and the text after it.
        self._recent = self._before = self._after = ""
        # A stop text crosses the border if it begins before this character of the two; 0 once none can.
        self._border = 0
        # An incomplete character at the end of a request, which the next request may complete.
        self._held = ""
        # How many characters of the completion were passed on; None where the engine's own text is right.
        self._decoded: int | None = None

    async def join(self, chunk: Chunk) -> Chunk:
        """Return ``chunk`` with its text as the whole completion has it, ended at a stop text across the border."""
        self._ids += chunk.ids
        if self._decoded is not None:
            chunk = replace(chunk, text=await self._decode(chunk, self._decoded))
        if self._border and chunk.text:
            chunk = await self._find_stop(chunk)
        if chunk.finish is not None and chunk.text.endswith(_INCOMPLETE):
            text = chunk.text.rstrip(_INCOMPLETE)
            self._held, chunk = chunk.text[len(text) :], replace(chunk, text=text)
        if self._reach:
            self._recent = (self._recent + chunk.text)[-self._reach :]
        return chunk

    async def cross(self, context: Context) -> None:
        """Prepare for the next request, which continues ``context``."""
        self._context = context
        self._before, self._after = self._recent, ""
        self._border = len(self._before) + (1 if self._held and self._stops else 0)
        self._decoded = None
        if self._held:
            self._decoded = await self._count(self._ids)

    def release(self) -> str:
        """Return the incomplete character at the very end of the completion."""
        held, self._held = self._held, ""
        return held

    async def _count(self, ids: Sequence[int]) -> int:
        """Count the whole characters of ``ids``."""
        return len((await self._engine.decode(ids)).rstrip(_INCOMPLETE))

    async def _decode(self, chunk: Chunk, passed: int) -> str:
        """Decode a text that begins inside a character from the ids, until the engine's own text is right again."""
        self._held = ""
        whole = await self._engine.decode(self._ids)
        if chunk.finish is None:
            whole = whole.rstrip(_INCOMPLETE)
        in_step = chunk.text and not chunk.text.endswith(_INCOMPLETE)
        self._decoded = None if in_step else max(passed, len(whole))
        return whole[passed:]

    async def _find_stop(self, chunk: Chunk) -> Chunk:
        start = len(self._before) + len(self._after)
        self._after += chunk.text
        window = self._before + self._after
        places = [(window.find(stop), stop) for stop in self._stops]
        found = [(at + len(stop), -len(stop), stop) for at, stop in places if 0 <= at < self._border]
        if found:
            end, _, stop = min(found)
            return await self._end_at(chunk, end - start, stop)
        if len(window) >= self._border + self._reach:
            self._border = 0
        return chunk

    async def _end_at(self, chunk: Chunk, characters: int, stop: str) -> Chunk:
        """End ``chunk`` with the token that completes its first ``characters``, the last of which complete ``stop``."""
        before, count, finish = self._ids[: len(self._ids) - len(chunk.ids)], 1, chunk.finish
        while count < len(chunk.ids):
            length = await self._count([*before, *chunk.ids[:count]]) - await self._count(before)
            if length >= characters:
                logprobs = chunk.logprobs[:count]
                chunk = replace(chunk, ids=chunk.ids[:count], text=chunk.text[:length], logprobs=logprobs)
                finish = None
                break
            count += 1
        if finish is None:
            # The engine would continue, so it is not asked for its counts. The request before this one has computed all
            # of the context but its last token.
            finish = Finish("stop", stop, len(self._context), max(0, len(self._context) - 1))
        elif not isinstance(finish.matched, int):  # a stop id, or the end token, counts before a stop text
            finish = replace(finish, reason="stop", matched=stop)
        return replace(chunk, finish=finish)
