"""The requests that a fake engine has received, and how each of them ended.

Invariant: every request is running, or ended in exactly one of three ways, so
``started == running + finished + aborted + failed``.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal

from sprint_agents.engine import Request

Outcome = Literal["running", "finished", "aborted", "failed"]
"""How a request ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request, at the time when the record was taken.

    ``number`` counts requests from 1 in order of arrival. ``cached_tokens`` of the ``prompt_tokens`` were in the cache.
    ``started`` and ``ended`` are times of the event loop, in seconds; ``ended`` is None while the request runs. A
    request is ``"aborted"`` by ``abort`` or ``aclose``, or because its reader was cancelled or closed the stream early.
    """

    number: int
    request: Request
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    outcome: Outcome
    started: float
    ended: float | None

    @property
    def id(self) -> str:
        """The id of the request."""
        return self.request.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Counts over all requests so far; ``peak`` is the largest number that ran at the same time.

    ``prompt_tokens``, ``cached_tokens`` and ``generated_tokens`` are sums over all requests.
    """

    started: int
    running: int
    finished: int
    aborted: int
    failed: int
    peak: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int


@dataclass(slots=True, eq=False)
class LiveRequest:
    """A request while it changes; cancelling ``waits_for`` wakes its reader."""

    number: int
    request: Request
    started: float
    cached_tokens: int = 0
    generated_tokens: int = 0
    outcome: Outcome = "running"
    ended: float | None = None
    waits_for: asyncio.Future[Any] | None = None

    def record(self) -> RequestRecord:
        """Make a record of the current state."""
        return RequestRecord(
            number=self.number,
            request=self.request,
            prompt_tokens=len(self.request.context),
            cached_tokens=self.cached_tokens,
            generated_tokens=self.generated_tokens,
            outcome=self.outcome,
            started=self.started,
            ended=self.ended,
        )


@dataclass(slots=True)
class RequestLog:
    """All requests in order of arrival, and the running ones by id."""

    requests: list[LiveRequest] = field(default_factory=list[LiveRequest])
    running: dict[str, LiveRequest] = field(default_factory=dict[str, LiveRequest])
    peak: int = 0

    def open(self, request: Request, *, now: float) -> LiveRequest:
        """Add a running request."""
        live = LiveRequest(len(self.requests) + 1, request, now)
        self.requests.append(live)
        self.running[request.id] = live
        self.peak = max(self.peak, len(self.running))
        return live

    def close(self, live: LiveRequest, outcome: Outcome, *, now: float) -> None:
        """Record how a request ended, unless it has ended already."""
        if live.outcome == "running":
            live.outcome = outcome
            live.ended = now
            del self.running[live.request.id]

    def account(self) -> Account:
        """Count all requests."""
        outcomes = [live.outcome for live in self.requests]
        return Account(
            started=len(self.requests),
            running=len(self.running),
            finished=outcomes.count("finished"),
            aborted=outcomes.count("aborted"),
            failed=outcomes.count("failed"),
            peak=self.peak,
            prompt_tokens=sum(len(live.request.context) for live in self.requests),
            cached_tokens=sum(live.cached_tokens for live in self.requests),
            generated_tokens=sum(live.generated_tokens for live in self.requests),
        )
