"""Whole completions that are requested together are one ``/generate``, which takes lists and numbers its events.

A request costs the client several times what its few events do, so a stage of many executors is sent as one.

Invariants:

- What comes in the same step of an event loop, and differs only in ids, sampling and context, is sent together.
- Each member has its own id at the server, its own events and its own end. One that is left is aborted by its id, and
  the others do not notice. A failure of the connection is everyone's.
- A member that was refused together with others is sent again alone, and nothing is sent together after that: some
  servers know no lists.
- The task that reads the events ends with the last member, which waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from dataclasses import dataclass, field

from sprint_agents.engines.event_stream import is_keepalive
from sprint_agents.engines.exchange import Exchange
from sprint_agents.engines.http import HttpClient
from sprint_agents.errors import EngineError, EngineOverloaded, EngineRejected, EngineTimeout, EngineUnavailable
from sprint_agents.functions import despite_cancellation

from .generate import DONE, GenerateEvent, read_event

Body = dict[str, object]
Abort = Callable[[str], Awaitable[object]]

_OWN = ("rid", "input_ids", "sampling_params")
"""What each member has of its own; the rest of a body is the same for all."""


class Batches:
    """Sends the whole completions of one engine; ``silence`` is the longest time in seconds between two events."""

    def __init__(self, http: HttpClient, *, silence: float, abort: Abort) -> None:
        self._http = http
        self._silence = silence
        self._abort = abort
        self._open: dict[object, _Batch] = {}
        self._refused = False

    def add(self, body: Body, headers: Mapping[str, str], *, alone: bool) -> "Member":
        """Send a request, with others unless it goes ``alone``."""
        shared = {name: value for name, value in body.items() if name not in _OWN}
        key = asyncio.get_running_loop(), repr(shared), repr(headers)
        alone = alone or self._refused or any(isinstance(value, list) for value in shared.values())
        batch = None if alone else self._open.get(key)
        if batch is None:
            batch = _Batch(self._http, self._abort, shared, headers)
            if not alone:
                self._open[key] = batch
            asyncio.get_running_loop().call_soon(self._start, batch, key)
        member = Member(batch, body, self._silence)
        batch.members.append(member)
        return member

    def refuse(self) -> None:
        """Send nothing together any more."""
        self._refused = True

    def _start(self, batch: "_Batch", key: object) -> None:
        if self._open.get(key) is batch:
            del self._open[key]
        batch.start()


@dataclass(slots=True, eq=False)
class _Batch:
    """Requests that are sent as one, and the task that reads their events."""

    http: HttpClient
    abort: Abort
    shared: Body
    headers: Mapping[str, str]
    members: "list[Member]" = field(default_factory=list["Member"])
    exchange: Exchange = field(init=False)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    reader: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.exchange = Exchange(self._farewell)

    def start(self) -> None:
        """Send the members. None was left before: its task would come after this call, which was scheduled first."""
        self.reader = asyncio.get_running_loop().create_task(self._read())

    def body(self) -> Body:
        """Write the body: lists of what differs, or plain values for one member."""
        bodies = [member.body for member in self.members]
        if len(bodies) == 1:
            return bodies[0]
        return {**{name: [body[name] for body in bodies] for name in _OWN}, **self.shared}

    async def _read(self) -> None:
        """Hand each event to its member, and in the end an error to those that have not ended."""
        error: Exception
        try:
            async with self.http.events("/generate", self.body(), self.exchange, headers=self.headers) as events:
                async for event in events:
                    if event.data != DONE and not is_keepalive(event):
                        await self._hand(read_event(event.data))
            error = EngineUnavailable(f"{self.http.url} ended a stream before its requests were finished")
        except Exception as failure:  # every member has to hear of it
            error = failure
        for member in self.members:
            member.over = member.over or isinstance(error, EngineRejected | EngineOverloaded)
            member.arrived.put_nowait(error)
        self.begun.set()

    async def _hand(self, event: GenerateEvent) -> None:
        member = self.members[(event.index or 0) % len(self.members)]
        member.over = event.meta_info.finish_reason is not None
        member.arrived.put_nowait(event)
        self.begun.set()
        if member.left and not member.over:  # its abort came before the server had the request
            await self.abort(str(member.body["rid"]))

    async def _farewell(self) -> None:
        """Abort what still runs, before the connection closes because it was silent, or because the program ends."""
        running = [member for member in self.members if not (member.over or member.left)]
        for member in running:
            member.aborted = True
        if running:
            await despite_cancellation(self._abort_all(running))

    async def _abort_all(self, members: "list[Member]") -> None:
        await asyncio.gather(*(self.abort(str(member.body["rid"])) for member in members))

    async def end(self) -> None:
        """Close the connection; if all members are over, it is read to its end, and can be used again."""
        assert self.reader
        if not all(member.over for member in self.members):
            self.reader.cancel()
        await asyncio.wait([self.reader])


@dataclass(slots=True, eq=False)
class Member:
    """One request of a batch; ``over`` once the server has said so, ``left`` once its reader has gone.

    It was ``aborted`` if that was done for all at once.
    """

    batch: _Batch
    body: Body
    silence: float
    arrived: asyncio.Queue[GenerateEvent | Exception] = field(
        default_factory=asyncio.Queue["GenerateEvent | Exception"]
    )
    over: bool = False
    left: bool = False
    aborted: bool = False

    @property
    def running(self) -> bool:
        """Whether the server may still compute the request."""
        return self.batch.exchange.sent and not (self.over or self.aborted)

    @property
    def awaits_more(self) -> bool:
        """Whether the server may still say something about the request."""
        reader = self.batch.reader
        return self.running and reader is not None and not reader.done()

    @property
    def company(self) -> bool:
        """Whether others were sent with it."""
        return len(self.batch.members) > 1

    async def event(self) -> GenerateEvent:
        """Return the next event.

        Raises:
            EngineTimeout: the others had events, and this request had none for ``silence`` seconds.
            EngineError: the request, or the connection, failed.
        """
        await self.batch.begun.wait()  # the exchange notices silence before
        try:
            async with asyncio.timeout(self.silence):
                arrived = await self.arrived.get()
        except TimeoutError:
            raise EngineTimeout(f"{self.batch.http.url} was silent for {self.silence:g} s") from None
        if isinstance(arrived, EngineError):
            raise copy(arrived) from arrived
        if isinstance(arrived, Exception):
            raise arrived
        return arrived

    def interrupt(self, reason: Exception) -> None:
        """Raise ``reason`` in the task that waits for an event, before any event that has not arrived."""
        self.arrived.put_nowait(reason)
        self.batch.begun.set()

    async def leave(self) -> None:
        """Want no more events. The last member waits until the connection is closed."""
        self.left = True
        if self.batch.reader and all(member.left for member in self.batch.members):
            await despite_cancellation(self.batch.end())
