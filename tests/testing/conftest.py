"""Fixtures that make a request from a text, and read its completion."""

from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Engine, Request, Sampling
from sprint_agents.markup import markup
from sprint_agents.testing.contract import Completion, complete


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
        tokens = [token for stop in stop_ids for token in await engine.encode(markup(stop))]
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
def ask(make_request) -> Callable[..., Awaitable[Completion]]:
    async def ask(engine: Engine, prompt: str | Context, **options) -> Completion:
        return await complete(engine, await make_request(engine, prompt, **options))

    return ask
