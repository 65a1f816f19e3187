"""The sessions of runs on a server with ``--enable-session-radix-cache``, which evicts last what open ones refer to.

SGLang opens a session with the first request that names it, and then keeps it open until it is closed. A client that is
killed closes none. So each run's session is opened by a separate request, which may say when the server closes it.

Invariants:

- No request of a run is sent while its session is being opened, since the server would not count it as the session's.
- A session that cannot be opened, or closed, fails no request.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from sprint_agents.engines.http import HttpClient
from sprint_agents.errors import EngineError
from sprint_agents.functions import despite_cancellation
from sprint_agents.logs import log

_CAPACITY = 2**31 - 1
"""The server demands a number of characters, and does not use it."""
_UNTIL_CLOSED = 2.0
"""Once a second, the server closes the sessions whose time is over."""
_MOST_RUNS = 10_000


@dataclass(slots=True)
class _Session:
    """A session that the server closes at ``end``, by this machine's clock; ``opened`` when the server was asked."""

    end: float
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """The open sessions. Each lasts ``seconds``, from its opening; a call waits ``call_seconds`` for the server."""

    def __init__(self, http: HttpClient, *, seconds: float, call_seconds: float) -> None:
        self._http = http
        self._seconds = seconds
        self._call_seconds = call_seconds
        self._open: OrderedDict[str, _Session] = OrderedDict()

    async def open(self, run: str) -> None:
        """Open the session of ``run``, unless it is open."""
        session = self._open.get(run)
        if session is not None and time.monotonic() < session.end:
            await session.opened.wait()
            return
        self._open[run] = session = _Session(time.monotonic() + self._seconds + _UNTIL_CLOSED)
        if len(self._open) > _MOST_RUNS:
            self._open.popitem(last=False)
        try:
            body = {"session_id": run, "capacity_of_str_len": _CAPACITY, "timeout": self._seconds}
            await self._call("/open_session", body)
        finally:
            session.opened.set()

    async def close(self, run: str) -> None:
        """Close the session of ``run``, whoever opened it."""
        self._open.pop(run, None)
        await despite_cancellation(self._call("/close_session", {"session_id": run}))

    async def _call(self, path: str, body: Mapping[str, object]) -> None:
        try:
            async with asyncio.timeout(self._call_seconds):
                await self._http.post(path, body, urgent=True)
        except (EngineError, TimeoutError) as error:
            log("warning", "engine.session_failed", logger=__name__, error=error, url=self._http.url, path=path)
