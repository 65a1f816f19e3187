"""A real server's own counters, read without the engine under test."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

SECONDS_TO_SETTLE = 5.0
"""A step of a busy machine is far shorter, and a request that runs on is far longer."""
_ESTABLISHED = "01"


@dataclass(frozen=True)
class Load:
    requests: int
    used_tokens: int
    computed_prompt_tokens: int


class Counters:
    def __init__(self, url: str) -> None:
        self.url = httpx2.URL(url)

    async def __aenter__(self) -> Self:
        # No connection is kept, so that none of these is ever counted.
        self._client = httpx2.AsyncClient(
            base_url=self.url, timeout=120, limits=httpx2.Limits(max_keepalive_connections=0)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def load(self) -> Load:
        loads: dict[str, Any] = (await self._client.get("/v1/loads")).raise_for_status().json()["loads"][0]
        return Load(
            requests=loads["num_running_reqs"] + loads["num_waiting_reqs"],
            used_tokens=loads["num_used_tokens"],
            computed_prompt_tokens=loads["total_prefill_uncached_tokens"],
        )

    async def idle(self, *, within: float = 30.0) -> None:
        """Wait until nothing runs and no token of the pool is held; fails after ``within`` seconds."""
        load = await self.load()
        async with asyncio.timeout(within):
            while load.requests or load.used_tokens:
                load = await self.load()

    async def forget(self) -> None:
        """Empty the radix cache."""
        (await self._client.post("/flush_cache")).raise_for_status()

    def connections(self) -> int:
        """How many connections to the server this machine holds."""
        port = f":{self.url.port:04X}"
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return sum(row[2].endswith(port) and row[3] == _ESTABLISHED for row in rows)
