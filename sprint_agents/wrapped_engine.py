"""An engine that passes everything on to another one, to be extended by those that look on."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Self, cast

from .engine import Capabilities, Chunk, Engine, Request
from .manifest import Manifest


class WrappedEngine(Engine):
    """Passes everything on to ``engine``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def name(self) -> str:
        """The engine's name."""
        return self._engine.name

    @property
    def manifest(self) -> Manifest | None:
        """The engine's manifest."""
        return self._engine.manifest

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""
        return self._engine.capabilities

    def check_schema(self, schema: str, *, what: str) -> None:
        """Raise if the engine cannot hold a completion to ``schema``."""
        self._engine.check_schema(schema, what=what)

    async def encode(self, text: str) -> list[int]:
        """Return the engine's ids of ``text``."""
        return await self._engine.encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the engine's text of ``ids``."""
        return await self._engine.decode(ids)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Pass a completion on."""
        stream = cast("AsyncGenerator[Chunk]", self._engine.complete(request))
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield chunk

    async def abort(self, request_id: str) -> None:
        """End a request."""
        await self._engine.abort(request_id)

    async def end_run(self, run: str) -> None:
        """Release what the engine keeps for a run."""
        await self._engine.end_run(run)

    async def aclose(self) -> None:
        """Close the engine."""
        await self._engine.aclose()

    async def __aenter__(self) -> Self:
        """Open the engine, if it has to be opened."""
        if isinstance(self._engine, AbstractAsyncContextManager):
            await self._engine.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
