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
        """Return the load of all ranks together."""
        ranks = await self.ranks()
        return Load(
            requests=sum(rank.requests for rank in ranks),
            used_tokens=sum(rank.used_tokens for rank in ranks),
            computed_prompt_tokens=sum(rank.computed_prompt_tokens for rank in ranks),
        )

    async def ranks(self) -> list[Load]:
        loads: list[dict[str, Any]] = (await self._client.get("/v1/loads")).raise_for_status().json()["loads"]
        return [
            Load(
                requests=rank["num_running_reqs"] + rank["num_waiting_reqs"],
                used_tokens=rank["num_used_tokens"],
                computed_prompt_tokens=rank["total_prefill_uncached_tokens"],
            )
            for rank in loads
        ]

    async def idle(self, *, within: float = 30.0) -> None:
        """Wait until nothing runs and no token of the pool is held; fails after ``within`` seconds."""
        load = await self.load()
        async with asyncio.timeout(within):
            while load.requests or load.used_tokens:
                load = await self.load()

    async def generated(self) -> int:
        """Return how many tokens the requests that have ended generated, those that were aborted too."""
        text = (await self._client.get("/metrics")).raise_for_status().text
        lines = [line for line in text.splitlines() if line.startswith("sglang:generation_tokens_total")]
        return round(sum(float(line.split()[-1]) for line in lines))

    async def forget(self) -> None:
        """Empty the radix cache."""
        (await self._client.post("/flush_cache")).raise_for_status()

    def connections(self) -> int:
        """How many connections to the server this machine holds."""
        port = f":{self.url.port:04X}"
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return sum(row[2].endswith(port) and row[3] == _ESTABLISHED for row in rows)
