"""Everything that this library raises on purpose.

::

    SprintError
    ├── ConfigurationError      found before anything ran: fix the call
    │   ├── MissingExtra        an optional dependency is not installed
    │   ├── UnknownPolicy       no built-in policy has that name
    │   ├── UnsupportedTask     empty, or not a task that this model was trained on
    │   ├── InvalidCheckpoint   no such directory, broken weights, corrupt sprint.json
    │   ├── InvalidRequest      a request that no engine may be sent: ids outside the vocabulary, …
    │   └── JournalError        a journal that does not belong to this run
    ├── EngineError             the model server, or the way to it
    │   ├── EngineUnavailable   refused, gone, or died in mid-stream (retryable)
    │   ├── EngineOverloaded    the server asks to come back later (retryable)
    │   ├── EngineTimeout       no answer in the time allowed (retryable)
    │   ├── EngineProtocolError an answer that makes no sense
    │   └── EngineRejected      the server refused this request, and would again
    │       └── ContextOverflow the context does not fit the model
    └── RunError                a run that could not be finished
        ├── BudgetExceeded      tokens, calls or subtasks of the run's budget are spent
        │   └── DeadlineExceeded  … or its time
        ├── ExecutionFailed     a subtask failed under ``fail_fast``
        ├── InvalidResult       the model's words do not validate as the declared type
        ├── NoAnswer            the planner ended without an answer
        ├── PolicyError         a policy yielded something that is no step
        ├── Superseded          a subtask given up: a sibling was accepted, or the run ended without it
        └── WidthExceeded       a subtask beyond the number that a policy lets a stage start

An error that ends a run has the run so far in ``error.run``: nothing that finished is lost.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .run import Run


class SprintError(Exception):
    """Base of all errors of this library; ``run`` is the partial run, if one had begun."""

    run: "Run[Any, Any] | None" = None


class ConfigurationError(SprintError, ValueError):
    """A mistake in the call, found before anything ran."""


class MissingExtra(ConfigurationError, ImportError):
    """An optional dependency is not installed.

    >>> str(MissingExtra("local", "torch"))
    "this needs torch, which is not installed: pip install 'sprint-agents[local]'"
    """

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(f"this needs {module}, which is not installed: pip install 'sprint-agents[{extra}]'")
        self.extra = extra


class UnknownPolicy(ConfigurationError):
    """No built-in policy has that name."""


class UnsupportedTask(ConfigurationError):
    """The task is empty, or not of a form that the model was trained on."""


class InvalidCheckpoint(ConfigurationError):
    """A model directory that cannot be used; the message names the file and what is wrong with it."""


class InvalidRequest(ConfigurationError):
    """A request that must not be sent, such as token ids outside the vocabulary."""


class JournalError(ConfigurationError):
    """A journal that is damaged or belongs to another task."""


class EngineError(SprintError):
    """The model server, or the way to it, failed; ``retryable`` says whether the same request may succeed later."""

    retryable: bool = False


class EngineUnavailable(EngineError):
    """The engine refused the connection, is closed, or died in mid-stream."""

    retryable = True


class EngineOverloaded(EngineError):
    """The server is too busy; ``retry_after`` is its own advice in seconds, if it gave one."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineTimeout(EngineError):
    """No answer in the time allowed for one call."""

    retryable = True


class EngineProtocolError(EngineError):
    """The server answered with something that makes no sense."""


class EngineRejected(EngineError):
    """The server refused this request, and would refuse it again; the message is the server's."""


class ContextOverflow(EngineRejected):
    """The context does not fit the model: ``tokens`` against ``limit``."""

    def __init__(self, *, tokens: int, limit: int) -> None:
        super().__init__(
            f"the context has {tokens} tokens and the model reads at most {limit}: "
            "lower the token limits or the number of stages, or use a model with a longer context"
        )
        self.tokens = tokens
        self.limit = limit


class RunError(SprintError):
    """A run that could not be finished; see ``run`` for what it had."""


class BudgetExceeded(RunError):
    """A budget of the run is spent; nothing beyond it was started."""


class DeadlineExceeded(BudgetExceeded):
    """The time of the run is over."""


class ExecutionFailed(RunError):
    """A subtask failed under the ``fail_fast`` policy; the cause is chained."""


class InvalidResult(RunError):
    """What the model wrote does not validate as the declared type.

    ``text`` is what it wrote, ``reason`` what is wrong with it, as the model is told.
    """

    def __init__(self, message: str, *, text: str, reason: str = "") -> None:
        super().__init__(message)
        self.text = text
        self.reason = reason or message


class NoAnswer(RunError):
    """The planner ended without an answer."""


class PolicyError(RunError):
    """A policy yielded something that is no step, or ended without an answer."""


class Superseded(RunError):
    """A subtask was given up: a sibling's result was accepted first, or the run answered without it."""


class WidthExceeded(RunError):
    """A subtask was not started: its policy limits how many a stage may have."""
