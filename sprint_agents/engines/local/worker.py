"""The thread that owns the model: it takes commands between steps and posts the outputs of each step.

Invariants:

- Every submitted request ends with exactly one last item in its stream, a finish or an error, unless its own reader
  aborted it.
- Every abort is answered, even if the thread ends first. So no task waits for a thread that is gone.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sprint_agents.engine import Request
from sprint_agents.errors import EngineError, EngineUnavailable, InvalidRequest

from .output import Mailbox, OutputOrError, OutputStream

if TYPE_CHECKING:
    from .scheduler import Scheduler
    from .sequence import TokenSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatistics:
    """Counts of a ``LocalEngine``'s requests and tokens, taken between two steps.

    Every request is running, waiting, or ended in exactly one of three ways, so
    ``started == running + waiting + finished + aborted + failed``. ``preempted`` counts how often a running request
    returned to the queue for lack of memory.

    The other fields count tokens. ``stored_tokens`` have their keys and values in memory; later requests can reuse
    ``cached_tokens`` of them, and ``pinned_tokens`` of these are in use. Of the ``prompt_tokens`` of all requests,
    ``reused_tokens`` were read from the cache. Prefills computed ``computed_tokens``, some of them repeatedly where
    requests were preempted.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBounds:
    """The bounds of a request: ids below ``vocabulary``, and at most ``context`` tokens, completion included."""

    vocabulary: int
    context: int


@dataclass(slots=True, eq=False)
class Submission:
    """A submitted request that has not ended."""

    request: Request
    ids: list[int]
    stream: OutputStream
    sequence: "TokenSequence | None" = None
    """None until the worker has taken it from its inbox."""


@dataclass(frozen=True, slots=True)
class _Abort:
    submission: Submission
    error: EngineError | None
    """The error for the reader; None if the reader itself aborts."""
    answer: Future[None]


_Command = Submission | _Abort | Literal["close"]


class Worker:
    """Runs a scheduler in its own thread; ``ready`` is done when the model is loaded, ``ended`` at the very end."""

    def __init__(self, load: "Callable[[], Scheduler]") -> None:
        self.ready: Future[RequestBounds] = Future()
        self.ended: Future[None] = Future()
        for future in (self.ready, self.ended):
            _protect(future)
        self.statistics = LocalStatistics()
        self._load = load
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._live: dict[str, Submission] = {}
        """The requests that have not ended, by id; shared between threads under the lock."""
        self._by_sequence: dict[TokenSequence, Submission] = {}
        self._started = self._finished = self._aborted = self._failed = 0
        self._closed = False
        # A daemon, so that an engine that was never closed does not keep the interpreter from exiting.
        self._thread = threading.Thread(target=self._main, name="sprint-local-engine", daemon=True)
        self._thread.start()

    def submit(self, submission: Submission) -> None:
        """Queue a request.

        Raises:
            EngineUnavailable: the worker is closed.
            InvalidRequest: a request with this id has not ended.

        """
        with self._lock:
            if self._closed:
                raise closed_error()
            if submission.request.id in self._live:
                raise InvalidRequest(f"request id {submission.request.id!r} is in use: give every request its own id")
            self._live[submission.request.id] = submission
            self._inbox.put(submission)

    def find(self, request_id: str) -> Submission | None:
        """Find the request with this id that has not ended."""
        with self._lock:
            return self._live.get(request_id)

    def abort(self, submission: Submission, *, error: EngineError | None) -> Future[None]:
        """End a request between two steps; the future is done when the request has ended in any way."""
        answer: Future[None] = Future()
        _protect(answer)
        with self._lock:
            if self.ended.done():
                answer.set_result(None)
            else:
                self._inbox.put(_Abort(submission, error, answer))
        return answer

    def close(self) -> None:
        """Abort all requests and end the thread; ``ended`` is done when it has."""
        with self._lock:
            self._closed = True
            self._inbox.put("close")

    def join(self) -> None:
        """Wait until the thread has exited, which it does at once after ``ended``."""
        self._thread.join()

    def _main(self) -> None:
        try:
            scheduler = self._load()
        except BaseException as error:
            self._shut_down()
            self.ready.set_exception(error)
            return
        self.ready.set_result(RequestBounds(vocabulary=scheduler.vocabulary, context=scheduler.context_limit))
        try:
            while self._run_commands(scheduler):
                self._step(scheduler)
        finally:
            self._shut_down()

    def _run_commands(self, scheduler: "Scheduler") -> bool:
        """Run the new commands, after waiting for one if there is nothing to compute; return False on close."""
        answers: list[Future[None]] = []
        errors: list[tuple[Submission, OutputOrError]] = []
        command = self._inbox.get() if scheduler.idle else self._next()
        while isinstance(command, Submission | _Abort):
            if isinstance(command, Submission):
                self._started += 1
                command.sequence = scheduler.submit(command.request, command.ids)
                self._by_sequence[command.sequence] = command
            else:
                answers.append(command.answer)
                if self._abort(scheduler, command.submission) and command.error is not None:
                    errors.append((command.submission, command.error))
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
        items: list[tuple[Submission, OutputOrError]] = []
        try:
            outputs = scheduler.step()
        except Exception as error:  # the readers must receive any error
            for submission in self._discard(scheduler):
                self._forget(submission)
                self._failed += 1
                failure = EngineUnavailable(f"the model failed during the completion: {type(error).__name__}: {error}")
                failure.__cause__ = error
                items.append((submission, failure))
        else:
            for sequence, output in outputs:
                submission = self._by_sequence[sequence]
                items.append((submission, output))
                if output.finish is not None:
                    self._forget(submission)
                    self._finished += 1
        self._count(scheduler)
        self._post(scheduler, items)

    def _discard(self, scheduler: "Scheduler") -> list[Submission]:
        """Reset the scheduler after a failure; return the running requests or, if there are none, the waiting ones."""
        scheduler.reset()
        waiting = [self._by_sequence[sequence] for sequence in scheduler.waiting]
        running = [submission for submission in self._by_sequence.values() if submission not in waiting]
        if not running:
            scheduler.waiting.clear()
        return running or waiting

    def _post(self, scheduler: "Scheduler", items: Sequence[tuple[Submission, OutputOrError]]) -> None:
        """Post the items to their mailboxes; abort the requests whose event loop is closed."""
        by_mailbox: dict[Mailbox, list[tuple[Submission, OutputOrError]]] = {}
        for submission, item in items:
            by_mailbox.setdefault(submission.stream.mailbox, []).append((submission, item))
        for mailbox, posted in by_mailbox.items():
            if not mailbox.post([(submission.stream, item) for submission, item in posted]):
                for submission, _ in posted:
                    self._abort(scheduler, submission)
                self._count(scheduler)

    def _abort(self, scheduler: "Scheduler", submission: Submission) -> bool:
        """Abort a request; return False if it has ended already."""
        if submission.sequence is None or submission.sequence not in self._by_sequence:
            return False
        scheduler.remove(submission.sequence)
        self._forget(submission)
        self._aborted += 1
        return True

    def _forget(self, submission: Submission) -> None:
        assert submission.sequence is not None
        del self._by_sequence[submission.sequence]
        with self._lock:
            del self._live[submission.request.id]

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
            stored_tokens=scheduler.cache.tokens,
            cached_tokens=scheduler.tree.tokens,
            pinned_tokens=scheduler.tree.pinned_tokens,
            prompt_tokens=totals.prompt,
            reused_tokens=totals.cached,
            computed_tokens=totals.computed,
            generated_tokens=totals.generated,
        )

    def _shut_down(self) -> None:
        """Fail the requests that have not ended, and answer all aborts. Later commands are refused."""
        with self._lock:
            self._closed = True
            submissions, self._live = [*self._live.values()], {}
            self._by_sequence.clear()
            while not self._inbox.empty():
                command = self._inbox.get()
                if isinstance(command, _Abort):
                    command.answer.set_result(None)
            self._aborted += len(submissions)
            self.statistics = LocalStatistics(
                started=self._started, finished=self._finished, aborted=self._aborted, failed=self._failed
            )
            self.ended.set_result(None)
        for submission in submissions:
            submission.stream.mailbox.post([(submission.stream, closed_error())])


def closed_error() -> EngineUnavailable:
    """Make the error that a closed engine raises."""
    return EngineUnavailable("the local engine is closed: make a new one for further requests")


def _protect(future: Future[Any]) -> None:
    """Prevent a task that is cancelled while it waits for ``future`` from cancelling it for other tasks."""
    future.set_running_or_notify_cancel()
