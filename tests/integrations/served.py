"""An ASGI application on loopback, served by uvicorn in the event loop of the test."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


class Announced(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@asynccontextmanager
async def served(application: Any) -> AsyncGenerator[str]:
    """Serve an application at the yielded address."""
    server = Announced(uvicorn.Config(application, port=0, log_level="critical"))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await server.listens.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
