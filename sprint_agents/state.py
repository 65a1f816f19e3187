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
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .context import Context
from .engine import Engine, Request, Sampling
from .generation import Generation

if TYPE_CHECKING:
    from .dialects.prompts import ToolBrief

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
