"""The primitive: an asyncio twin of SGLang's ``ProgramState`` (its frontend's ``generate``, ``fork``, ``join``).

Invariants:

- A state only ever replaces its context by a descendant of it; branches share everything up to the fork.
- A completion joins the context as the ids that the model produced, and only when it is complete: after an error or
  an early exit the state stands where it stood.
- Leaving a ``fork`` block ends whatever still runs in it, at the engine.
"""

import asyncio
import itertools
import secrets
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .context import Context
from .engine import Chunk, Engine, Finish, Request, Sampling
from .errors import EngineProtocolError

if TYPE_CHECKING:
    from .dialect.turns import ToolBrief

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stops:
    """Where a completion ends: token ids, and texts for what is no single token."""

    ids: frozenset[int] = frozenset()
    texts: tuple[str, ...] = ()

    @classmethod
    async def resolve(cls, engine: Engine, texts: Sequence[str]) -> Self:
        """Turn every text that is one token of the engine's vocabulary into a stop id."""
        ids: set[int] = set()
        rest: list[str] = []
        for text in texts:
            encoded = await engine.encode(text)
            if len(encoded) == 1:
                ids.add(encoded[0])
            else:
                rest.append(text)
        return cls(frozenset(ids), tuple(rest))


class RequestIds:
    """Request ids that are unique across processes and of one width, so that none is a prefix of another."""

    __slots__ = ("_counter", "_prefix")

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._counter = itertools.count()

    def __next__(self) -> str:
        return f"{self._prefix}-{next(self._counter):010d}"

    def __iter__(self) -> Self:
        return self


class Generation:
    """A completion under way: an async context manager and an async iterator of its chunks.

    ``cut`` gives the context at any point of the text so far, so that a branch can start before the end.
    """

    __slots__ = (
        "_chunks",
        "_cut_ids",
        "_cut_text",
        "_ended",
        "_index",
        "_read",
        "_state",
        "_tip",
        "_tokens",
        "finish",
        "ids",
        "length",
    )

    def __init__(self, state: "State", chunks: AsyncIterator[Chunk]) -> None:
        self._state = state
        self._chunks = chunks
        self._ended = False
        self.ids: list[int] = []
        self.finish: Finish | None = None
        # What the engine counts itself, where ids are no tokens.
        self._tokens: int | None = None
        self._read: list[Chunk] = []
        self.length = 0
        self._index: _Index | None = None
        # The last cut: a node of the context that further cuts and the end extend, so that n cuts cost O(tokens).
        self._tip = state.context
        self._cut_ids = 0
        self._cut_text = 0

    @property
    def text(self) -> str:
        """The text so far, stop included."""
        return "".join([chunk.text for chunk in self._read])

    @property
    def tokens(self) -> int:
        """How many tokens were generated so far; where ids are no tokens, an estimate until the end."""
        return len(self.ids) if self._tokens is None else self._tokens

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing the engine's iterator aborts the request if it is not finished.
        if not self._ended:
            await self._chunks.aclose()  # type: ignore[attr-defined]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._end()
            raise
        self._take(chunk)
        return chunk

    async def drain(self, heard: Callable[[Chunk], object] | None = None) -> None:
        """Read all that is yet to come; ``heard`` is told each chunk."""
        async for chunk in self._chunks:
            self._take(chunk)
            if heard is not None:
                heard(chunk)
        self._end()

    def _take(self, chunk: Chunk) -> None:
        self._read.append(chunk)
        self.ids.extend(chunk.ids)
        self.length += len(chunk.text)
        if chunk.tokens is not None:
            self._tokens = (self._tokens or 0) + chunk.tokens
        if (finish := chunk.finish) is not None:
            self.finish = finish
            if finish.generated_tokens is not None:
                self._tokens = finish.generated_tokens
            if self._cut_ids or self._cut_text:
                rest = self._slice(self._cut_text, self.length)
                self._state.context = self._tip.extend(self.ids[self._cut_ids :], rest)
            else:
                self._state.context = self._tip.extend(self.ids, self.text)

    def _end(self) -> None:
        self._ended = True
        if self.finish is None:
            raise EngineProtocolError("the engine ended a completion without saying why")

    def tokens_before(self, offset: int) -> int:
        """Count the tokens that wrote the first ``offset`` characters; in proportion inside a chunk of several tokens.

        Where ids are no tokens, all of ``tokens`` in proportion; words that the model kept to itself come first.
        """
        if offset == self.length and self._read and self._read[-1].text:
            before = len(self.ids)
        else:
            marks = self._places().marks
            mark = bisect_left(marks, (offset, 0))
            text_end, before = marks[mark]
            if text_end != offset and mark:
                text_start, start = marks[mark - 1]
                before = start + round((before - start) * (offset - text_start) / (text_end - text_start))
        if self._tokens is None:
            return before
        return round(self._tokens * before / len(self.ids)) if self.ids else self._tokens

    async def cut(self, offset: int) -> Context:
        """Return the context up to ``offset`` characters of the text; offsets must not fall from call to call.

        Where a token reaches beyond the offset, the context ends before that token and the remaining characters are
        encoded on their own, off the planner's path.
        """
        text_end, ids_end = await self._boundary(offset)
        self._advance(ids_end, text_end)
        rest = self._slice(text_end, offset)
        return self._tip.extend(await self._state.engine.encode(rest), rest) if rest else self._tip

    async def _boundary(self, offset: int) -> tuple[int, int]:
        """Find the last place at or before ``offset`` where a token ends, as offsets into text and ids."""
        marks = self._places().marks
        mark = bisect_left(marks, (offset, 0))
        if marks[mark][0] == offset:
            return marks[mark]
        # Inside a chunk of several tokens, or inside a token: gallop from the last known boundary, then bisect.
        text_start, ids_start = marks[mark - 1]
        ids = self.ids[ids_start : marks[mark][1]]
        low, high, found = 0, 1, 0
        while low < min(high, len(ids)):
            reached = len(await self._state.engine.decode(ids[:high]))
            if text_start + reached <= offset:
                low, found, high = high, reached, 2 * high
            elif high - low > 1:
                high = (low + high) // 2
            else:
                break
        boundary = (text_start + found, ids_start + low)
        if low:
            marks.insert(mark, boundary)
        return boundary

    def _advance(self, ids_end: int, text_end: int) -> None:
        if ids_end > self._cut_ids:
            text = self._slice(self._cut_text, text_end)
            self._tip = self._tip.extend(self.ids[self._cut_ids : ids_end], text)
            self._cut_ids, self._cut_text = ids_end, text_end

    def _slice(self, start: int, end: int) -> str:
        """Characters ``start`` to ``end``, touching only the chunks that hold them."""
        ends = self._places().chunk_ends
        first = bisect_left(ends, start + 1) - 1
        last = bisect_left(ends, end)
        base = ends[first]
        return "".join([chunk.text for chunk in self._read[first:last]])[start - base : end - base]

    def _places(self) -> "_Index":
        """Return the index of all that was read; made only where it is asked for."""
        if self._index is None:
            self._index = _Index()
        self._index.cover(self._read)
        return self._index


class _Index:
    """Where chunks end in a text; and places where tokens are known to end, in the text and in the ids, ascending."""

    __slots__ = ("_ids", "chunk_ends", "marks")

    def __init__(self) -> None:
        self._ids = 0
        self.chunk_ends = [0]
        self.marks: list[tuple[int, int]] = [(0, 0)]

    def cover(self, chunks: Sequence[Chunk]) -> None:
        """Go on with the chunks that are new."""
        for chunk in chunks[len(self.chunk_ends) - 1 :]:
            end = self.chunk_ends[-1] + len(chunk.text)
            self._ids += len(chunk.ids)
            self.chunk_ends.append(end)
            self.marks.append((end, self._ids))


class State:
    """A context from which a model goes on writing.

    >>> from sprint_agents.testing import FakeEngine
    >>> async def main():
    ...     async with FakeEngine(lambda request: f" branch {request.text[-1]}") as engine:
    ...         state = State(engine)
    ...         await state.append("Count: ")
    ...         async with state.fork(2) as fork:
    ...             for number, branch in enumerate(fork.branches):
    ...                 await branch.append(str(number))
    ...                 fork.start(branch.generate(max_tokens=8))
    ...             await fork.gather()
    ...         await state.join(fork.branches, separator="; ")
    ...         return state.context.text
    >>> asyncio.run(main())
    'Count: 0 branch 0; 1 branch 1; '
    """

    __slots__ = ("_request_ids", "context", "engine", "sampling")

    def __init__(
        self,
        engine: Engine,
        context: Context | None = None,
        *,
        sampling: Sampling | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        self.engine = engine
        self.context = context if context is not None else Context()
        self.sampling = sampling or Sampling()
        self._request_ids = request_ids or RequestIds()

    async def append(self, text: str) -> None:
        """Extend the context by ``text``, encoded by the engine."""
        if text:
            self.context = self.context.extend(await self.engine.encode(text), text)

    def stream(
        self,
        *,
        max_tokens: int,
        stops: Stops | None = None,
        schema: str | None = None,
        tools: tuple["ToolBrief", ...] = (),
        may_call: bool = False,
    ) -> Generation:
        """Begin a completion of the context; it joins the context when its last chunk has been read.

        ``schema`` is the JSON schema that it must satisfy, for an engine that ``Constrains``. ``tools`` are those that
        it is told of, and may call if ``may_call``, for an engine whose turns have ``calls``.
        """
        stops = stops or Stops()
        request = Request(
            id=next(self._request_ids),
            context=self.context,
            max_tokens=max_tokens,
            sampling=self.sampling,
            stop_ids=stops.ids,
            stop_texts=stops.texts,
            schema=schema,
            tools=tools,
            may_call=may_call,
        )
        return Generation(self, self.engine.complete(request))

    async def generate(self, *, max_tokens: int, stops: Stops | None = None, schema: str | None = None) -> Generation:
        """Complete the context, as ``stream`` does, and return the finished completion."""
        async with self.stream(max_tokens=max_tokens, stops=stops, schema=schema) as generation:
            await generation.drain()
        return generation

    def fork(self, count: int = 0) -> "Fork":
        """Open a block of branches that start here; more can be added inside it. O(1) per branch."""
        return Fork(self, count)

    def branch(self, at: Context | None = None) -> "State":
        """Make a state of its own at ``at`` (here by default), for the same engine."""
        return State(
            self.engine, at if at is not None else self.context, sampling=self.sampling, request_ids=self._request_ids
        )

    async def join(self, branches: Sequence["State"], *, separator: str = "\n") -> None:
        """Append what each branch added since the fork, in this order, each followed by ``separator``."""
        start = self.context
        ids = await self.engine.encode(separator)
        for branch in branches:
            self.context = self.context.extend(branch.context.ids_since(start), branch.context.text_since(start))
            self.context = self.context.extend(ids, separator)


class Fork:
    """The branches of a state and the tasks that run on them; leaving the block cancels what still runs."""

    __slots__ = ("_group", "_parent", "_tasks", "branches")

    def __init__(self, parent: State, count: int) -> None:
        self._parent = parent
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[Any]] = []
        self.branches = [parent.branch() for _ in range(count)]

    def __iter__(self) -> Iterator[State]:
        return iter(self.branches)

    def branch(self, at: Context | None = None) -> State:
        """Add a branch that starts at ``at`` (the parent's context by default)."""
        branch = self._parent.branch(at)
        self.branches.append(branch)
        return branch

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` beside the others; if it raises, the block ends with that error and the others are cancelled."""
        task = self._group.create_task(work)
        self._tasks.append(task)
        return task

    async def gather(self) -> list[Any]:
        """Wait for all that was started and return the results in the order of the starts."""
        return [await task for task in self._tasks]

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if error is not None and not isinstance(error, asyncio.CancelledError):
                return  # what the block itself raised goes on
            cause = _first_cause(group)
            raise cause from cause.__cause__


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return first  # pyright: ignore[reportUnknownVariableType]
