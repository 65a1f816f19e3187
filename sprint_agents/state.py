"""``State``: generate, fork, gather and join over one context, as SGLang's ``ProgramState`` does, for asyncio.

Invariants:

- A state replaces its context only by a descendant of it, apart from dropping a turn's thoughts or a failed stage;
  branches share everything up to the fork.
- A completion joins the context as the ids that the model produced, and only when it is complete: after an error or
  an early exit the context is unchanged.
- Leaving a ``fork`` block cancels its tasks and aborts their requests at the engine.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from .context import Context
from .continuation import Continuation, Extend
from .engine import Chunk, Engine, Hints, Request, Sampling, Thoughts, ToolBrief
from .functions import cancelling
from .generation import Generation
from .markup import PromptText, compose, markup

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stops:
    """Where a completion ends: at one of these token ids, or after one of these texts."""

    ids: frozenset[int] = frozenset()
    texts: tuple[str, ...] = ()
    """Stops that the vocabulary has no single token for."""

    @classmethod
    async def resolve(cls, engine: Engine, texts: Sequence[str]) -> Self:
        """Replace each text that is a single token of the engine's vocabulary by its id."""
        encoded = {text: await engine.encode(markup(text)) for text in texts}
        return cls(
            frozenset(ids[0] for ids in encoded.values() if len(ids) == 1),
            tuple(text for text, ids in encoded.items() if len(ids) != 1),
        )


_NO_STOPS = Stops()


class RequestIds(Iterator[str]):
    """The ids of the requests of one ``run``, which is the same for all of them.

    They are unique across processes and of equal length, so that none is a prefix of another.
    """

    __slots__ = ("_numbers", "run")

    def __init__(self) -> None:
        self.run = secrets.token_hex(6)
        self._numbers = itertools.count()

    def __next__(self) -> str:
        return f"{self.run}-{next(self._numbers):010d}"


class State:
    """A context that a model extends.

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

    @property
    def run(self) -> str:
        """What all requests of this state and its branches have in common (``Hints.run``)."""
        return self._request_ids.run

    async def append(self, text: str) -> None:
        """Extend the context by ``text``, which the engine encodes; control tokens are recognised in its ``markup``."""
        text = text if isinstance(text, PromptText) else compose([text])
        if text:
            self.context = self.context.extend(await self.engine.encode(text), text)

    def stream(
        self,
        *,
        max_tokens: int,
        stops: Stops | None = None,
        schema: str | None = None,
        tools: tuple[ToolBrief, ...] = (),
        may_call: bool = False,
        thoughts: Thoughts = "none",
        extend: Extend | None = None,
        whole: bool = False,
        hints: Hints | None = None,
    ) -> Generation:
        """Start a completion; it joins the context once its last chunk is read.

        ``schema`` is the JSON schema that constrains it, for engines with ``Capabilities.schemas``. ``tools`` are the
        tools that the request describes, for engines with ``Capabilities.native_tools``; ``may_call`` allows the model
        to call them. With ``extend``, for engines with ``Capabilities.continues``, a completion that reaches
        ``max_tokens`` is continued for as many tokens as that returns, by another request; 0 ends it. With ``whole``,
        it may arrive in few chunks, or in one. ``hints`` are for the engine.
        """
        stops = stops or _NO_STOPS
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
            thoughts=thoughts,
            whole=whole,
            hints=hints or Hints(run=self.run),
        )
        if extend is None:
            generation = Generation(
                self.engine,
                self.context,
                self._complete(request),
                finished=self._extended,
                request_ids=(request.id,),
            )
        else:
            continuation = Continuation(self.engine, request, request_ids=self._request_ids, extend=extend)
            generation = Generation(
                self.engine,
                self.context,
                continuation.chunks(),
                finished=self._extended,
                continuation=continuation,
            )
        request.missed = generation.missed
        return generation

    def _complete(self, request: Request) -> AsyncIterator[Chunk]:
        """Call the engine; an error that it raises at once is raised as the first chunk is read, like any other."""
        try:
            return self.engine.complete(request)
        except BaseException as error:
            return _raising(error)

    def replay(self, chunks: Iterable[Chunk]) -> Generation:
        """Read a finished completion of the context again, from its chunks; no request is sent."""

        async def again() -> AsyncGenerator[Chunk]:
            for chunk in chunks:
                yield chunk

        return Generation(self.engine, self.context, again(), finished=self._extended)

    def _extended(self, context: Context) -> None:
        self.context = context

    async def generate(self, *, max_tokens: int, stops: Stops | None = None, schema: str | None = None) -> Generation:
        """Complete the context as ``stream`` does, and return the finished completion."""
        async with self.stream(max_tokens=max_tokens, stops=stops, schema=schema) as generation:
            await generation.drain()
        return generation

    def fork(self, count: int = 0) -> "Fork":
        """Open a block with ``count`` branches of this context; add more inside it. O(1) per branch."""
        return Fork(self, count)

    def branch(self, at: Context | None = None) -> "State":
        """Return an independent state at ``at`` (by default the same context), for the same engine."""
        return State(
            self.engine, at if at is not None else self.context, sampling=self.sampling, request_ids=self._request_ids
        )

    def on(self, engine: Engine, context: Context, *, sampling: Sampling) -> "State":
        """Return a state on another engine, whose requests belong to the same ``run``."""
        return State(engine, context, sampling=sampling, request_ids=self._request_ids)

    async def join(self, branches: Sequence["State"], *, separator: str = "\n") -> None:
        """Append the text that each branch added since the fork, in this order, each followed by ``separator``."""
        start = self.context
        ids = await self.engine.encode(separator)
        for branch in branches:
            self.context = self.context.extend(branch.context.ids_since(start), branch.context.text_since(start))
            self.context = self.context.extend(ids, separator)


async def _raising(error: BaseException) -> AsyncGenerator[Chunk]:
    raise error
    yield  # an async generator, as engines return


class Fork:
    """The branches of a state and their tasks; leaving the block cancels the tasks that still run."""

    __slots__ = ("_cancelling", "_group", "_parent", "_tasks", "branches")

    def __init__(self, parent: State, count: int) -> None:
        self._parent = parent
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[Any]] = []
        self._cancelling = 0
        self.branches = [parent.branch() for _ in range(count)]

    def __iter__(self) -> Iterator[State]:
        return iter(self.branches)

    def branch(self, at: Context | None = None) -> State:
        """Add a branch that starts at ``at`` (the parent's context by default)."""
        branch = self._parent.branch(at)
        self.branches.append(branch)
        return branch

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task; if it raises, the block cancels all other tasks and raises its error."""
        task = self._group.create_task(work)
        self._tasks.append(task)
        return task

    async def gather(self) -> list[Any]:
        """Wait for all tasks and return their results in the order in which they were started."""
        if self._tasks:
            await asyncio.wait(self._tasks)  # awaited one by one, a task could ignore the cancellation of the block
        return [task.result() for task in self._tasks]

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._cancelling = cancelling()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Example: tasks A, B and C, and the block awaits gather(). If B raises, the group cancels A, C and the block,
        # so gather() raises CancelledError and we arrive here: the group then raises B's error. If the block itself
        # raises KeyError, the tasks are cancelled here and the KeyError is raised. Either way the caller sees one plain
        # error instead of a group, and nothing runs on.
        for task in self._tasks:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if error is not None and (not isinstance(error, asyncio.CancelledError) or cancelling() > self._cancelling):
                return  # the block's own error propagates, and its cancellation unless the group cancelled it
            cause = _first_cause(group)
            raise cause from cause.__cause__


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return first  # pyright: ignore[reportUnknownVariableType]
