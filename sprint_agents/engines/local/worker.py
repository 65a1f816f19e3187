"""The one thread that owns the model: it takes commands between steps and posts what each step gave.

Every submitted request ends by exactly one last item in its stream (a finish or an error), unless its own reader
aborted it; and every abort is answered, whatever else happens. So nobody waits for a thread that is gone.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sprint_agents.engine import Request
from sprint_agents.errors import EngineError, EngineUnavailable, InvalidRequest

from .bounds import Bounds
from .stream import Item, Mailbox, Stream

if TYPE_CHECKING:
    from .branch import Branch
    from .scheduler import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatistics:
    """What a ``LocalEngine`` holds and has done, between two steps.

    Every request is running, waiting, or ended in exactly one of three ways, so
    ``started == running + waiting + finished + aborted + failed``. The rest counts tokens: ``stored_tokens`` have
    their keys and values in memory, ``cached_tokens`` of them can be found by a later request, ``pinned_tokens`` of
    these are in use. ``prompt_tokens`` were asked for, ``reused_tokens`` of them read from the cache,
    ``computed_tokens`` computed by prefills (again, where a branch was ``preempted``).

    >>> LocalStatistics(started=3, finished=2, aborted=1).running
    0
    """

    running: int = 0
    waiting: int = 0
    started: int = 0
    finished: int = 0
    aborted: int = 0
    failed: int = 0
    preempted: int = 0
    stored_tokens: int = 0
    cached_tokens: int = 0
    pinned_tokens: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that was submitted and has not ended."""

    request: Request
    ids: list[int]
    stream: Stream
    branch: "Branch | None" = None


@dataclass(frozen=True, slots=True)
class _Abort:
    ticket: Ticket
    error: EngineError | None
    """What the reader gets, if it is not the reader who aborts."""
    answer: Future[None]


_Command = Ticket | _Abort | Literal["close"]


class Worker:
    """Runs a scheduler in a thread of its own. ``ready`` and ``over`` say when it is loaded, and when it has ended."""

    def __init__(self, load: "Callable[[], Scheduler]") -> None:
        self.ready: Future[Bounds] = Future()
        self.over: Future[None] = Future()
        for future in (self.ready, self.over):
            _hold(future)
        self.statistics = LocalStatistics()
        self._load = load
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._live: dict[str, Ticket] = {}
        self._by_branch: dict[Branch, Ticket] = {}
        self._started = self._finished = self._aborted = self._failed = 0
        self._closed = False
        # A daemon: an engine that nobody closed must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._main, name="sprint-local-engine", daemon=True)
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Queue a request.

        Raises:
            EngineUnavailable: the worker is closed.
            InvalidRequest: a request of that id is alive.

        """
        with self._lock:
            if self._closed:
                raise closed_error()
            if ticket.request.id in self._live:
                raise InvalidRequest(f"request id {ticket.request.id!r} is in use: give every request an id of its own")
            self._live[ticket.request.id] = ticket
            self._inbox.put(ticket)

    def find(self, request_id: str) -> Ticket | None:
        """Find the live request of that id."""
        with self._lock:
            return self._live.get(request_id)

    def abort(self, ticket: Ticket, *, error: EngineError | None) -> Future[None]:
        """End a request between two steps; the future is done when it has ended, however it ended."""
        answer: Future[None] = Future()
        _hold(answer)
        with self._lock:
            if self.over.done():
                answer.set_result(None)
            else:
                self._inbox.put(_Abort(ticket, error, answer))
        return answer

    def close(self) -> None:
        """Abort everything and end the thread; ``over`` says when."""
        with self._lock:
            self._closed = True
            self._inbox.put("close")

    def join(self) -> None:
        """Wait for the end of the thread; after ``over`` that is at once."""
        self._thread.join()

    def _main(self) -> None:
        try:
            scheduler = self._load()
        except BaseException as error:
            self._end()
            self.ready.set_exception(error)
            return
        self.ready.set_result(scheduler.bounds)
        try:
            while self._obey(scheduler):
                self._step(scheduler)
        finally:
            self._end()

    def _obey(self, scheduler: "Scheduler") -> bool:
        """Carry out the commands that came since the last step, or wait for one; False when told to close."""
        answers: list[Future[None]] = []
        errors: list[tuple[Ticket, Item]] = []
        command = self._inbox.get() if scheduler.idle else self._next()
        while isinstance(command, Ticket | _Abort):
            if isinstance(command, Ticket):
                self._started += 1
                command.branch = scheduler.submit(command.request, command.ids)
                self._by_branch[command.branch] = command
            else:
                answers.append(command.answer)
                if self._drop(scheduler, command.ticket) and command.error is not None:
                    errors.append((command.ticket, command.error))
            command = self._next()
        self._count(scheduler)
        self._post(scheduler, errors)
        for answer in answers:
            answer.set_result(None)
        return command != "close"

    def _next(self) -> "_Command | None":
        try:
            return self._inbox.get_nowait()
        except queue.Empty:
            return None

    def _step(self, scheduler: "Scheduler") -> None:
        items: list[tuple[Ticket, Item]] = []
        try:
            outputs = scheduler.step()
        except Exception as error:  # whatever it is, the readers must hear of it
            for ticket in self._lost(scheduler):
                self._forget(ticket)
                self._failed += 1
                failure = EngineUnavailable(f"the model failed in mid-stream: {type(error).__name__}: {error}")
                failure.__cause__ = error
                items.append((ticket, failure))
        else:
            for branch, piece in outputs:
                ticket = self._by_branch[branch]
                items.append((ticket, piece))
                if piece.finish is not None:
                    self._forget(ticket)
                    self._finished += 1
        self._count(scheduler)
        self._post(scheduler, items)

    def _lost(self, scheduler: "Scheduler") -> list[Ticket]:
        """Clear up after a failed step: all requests are lost that do not wait, or if there is none, all that do."""
        scheduler.reset()
        waiting = [self._by_branch[branch] for branch in scheduler.waiting]
        lost = [ticket for ticket in self._by_branch.values() if ticket not in waiting]
        if not lost:
            scheduler.waiting.clear()
        return lost or waiting

    def _post(self, scheduler: "Scheduler", items: Sequence[tuple[Ticket, Item]]) -> None:
        """Post each mailbox its items; where nobody is left to read them, the requests end."""
        by_mailbox: dict[Mailbox, list[tuple[Ticket, Item]]] = {}
        for ticket, item in items:
            by_mailbox.setdefault(ticket.stream.mailbox, []).append((ticket, item))
        for mailbox, posted in by_mailbox.items():
            if not mailbox.post([(ticket.stream, item) for ticket, item in posted]):
                for ticket, _ in posted:
                    self._drop(scheduler, ticket)
                self._count(scheduler)

    def _drop(self, scheduler: "Scheduler", ticket: Ticket) -> bool:
        """Abort a request, unless it has ended already."""
        if ticket.branch is None or ticket.branch not in self._by_branch:
            return False
        scheduler.remove(ticket.branch)
        self._forget(ticket)
        self._aborted += 1
        return True

    def _forget(self, ticket: Ticket) -> None:
        assert ticket.branch is not None
        del self._by_branch[ticket.branch]
        with self._lock:
            del self._live[ticket.request.id]

    def _count(self, scheduler: "Scheduler") -> None:
        totals = scheduler.totals
        self.statistics = LocalStatistics(
            running=len(scheduler.prefilling) + len(scheduler.decoding),
            waiting=len(scheduler.waiting),
            started=self._started,
            finished=self._finished,
            aborted=self._aborted,
            failed=self._failed,
            preempted=totals.preempted,
            stored_tokens=scheduler.store.tokens,
            cached_tokens=scheduler.tree.tokens,
            pinned_tokens=scheduler.tree.pinned_tokens,
            prompt_tokens=totals.prompt,
            reused_tokens=totals.cached,
            computed_tokens=totals.computed,
            generated_tokens=totals.generated,
        )

    def _end(self) -> None:
        """Fail what is alive and answer what was asked; nothing comes after."""
        with self._lock:
            self._closed = True
            tickets, self._live = [*self._live.values()], {}
            self._by_branch.clear()
            while not self._inbox.empty():
                command = self._inbox.get()
                if isinstance(command, _Abort):
                    command.answer.set_result(None)
            self._aborted += len(tickets)
            self.statistics = LocalStatistics(
                started=self._started, finished=self._finished, aborted=self._aborted, failed=self._failed
            )
            self.over.set_result(None)
        for ticket in tickets:
            ticket.stream.mailbox.post([(ticket.stream, closed_error())])


def closed_error() -> EngineUnavailable:
    """Make the error of everything that is asked of a closed engine."""
    return EngineUnavailable("the local engine is closed: make a new one for requests that come later")


def _hold(future: Future[Any]) -> None:
    """See to it that a task that is cancelled while it waits for ``future`` cannot cancel it for the others."""
    future.set_running_or_notify_cancel()
