"""What the tests of the fake engine share: making a request of a text, and reading its completion."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Engine, Finish, Request, Sampling


@dataclass(frozen=True)
class Answer:
    chunks: list[Chunk]

    @property
    def ids(self) -> list[int]:
        return [token for chunk in self.chunks for token in chunk.ids]

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def finish(self) -> Finish:
        *earlier, last = self.chunks
        assert [chunk.finish for chunk in earlier] == [None] * len(earlier)
        assert last.finish is not None
        return last.finish


@pytest.fixture
def make_request() -> Callable[..., Awaitable[Request]]:
    numbers = count()

    async def make(
        engine: Engine,
        prompt: str | Context,
        *,
        max_tokens: int = 100,
        stop_ids: tuple[str, ...] = (),
        stop_texts: tuple[str, ...] = (),
        request_id: str | None = None,
    ) -> Request:
        if isinstance(prompt, str):
            prompt = Context().extend(await engine.encode(prompt), prompt)
        tokens = [token for stop in stop_ids for token in await engine.encode(stop)]
        assert len(tokens) == len(stop_ids)
        return Request(
            id=request_id or f"request-{next(numbers):04d}",
            context=prompt,
            max_tokens=max_tokens,
            sampling=Sampling(),
            stop_ids=frozenset(tokens),
            stop_texts=stop_texts,
        )

    return make


@pytest.fixture
def ask(make_request) -> Callable[..., Awaitable[Answer]]:
    async def ask(engine: Engine, prompt: str | Context, **options) -> Answer:
        request = await make_request(engine, prompt, **options)
        return Answer([chunk async for chunk in engine.complete(request)])

    return ask
