"""All errors that this library raises on purpose, as one tree.

::

    SprintError
    ├── ConfigurationError      a mistake in the call, found before the run starts
    │   ├── MissingExtra        an optional dependency is not installed
    │   ├── UnknownPolicy       no built-in policy has that name
    │   ├── UnsupportedTask     the task is empty, or the model was not trained on it
    │   ├── InvalidCheckpoint   no such directory, broken weights, corrupt sprint.json
    │   │   └── NoChatTemplate    the model has no chat template, and nothing says that it knows the paper's format
    │   ├── InvalidRequest      a request that no engine accepts: ids outside the vocabulary, …
    │   └── JournalError        the journal is damaged or belongs to another run
    ├── EngineError             the model server, or the connection to it, failed
    │   ├── EngineUnavailable   connection refused or lost, engine closed (retryable)
    │   ├── EngineOverloaded    the server is too busy (retryable)
    │   ├── EngineTimeout       no answer in time (retryable)
    │   ├── EngineProtocolError an answer that cannot be understood
    │   └── EngineRejected      the server refused this request, and would refuse it again
    │       └── ContextOverflow the context is longer than the model can read
    ├── ModelRetry              raised by a function of yours: the model shall try again
    └── RunError                the run could not be finished
        ├── BudgetExceeded      the budget's tokens, calls or subtasks are spent
        │   └── DeadlineExceeded  the budget's time is over
        ├── ExecutionFailed     a subtask failed under ``fail_fast``
        ├── FunctionError       a function of yours took too long, called ``sys.exit``, …; or the checker raised
        │   └── ReviewTimeout     a person did not review a plan, or approve a tool call, in time
        ├── InvalidResult       the model's text does not validate as the declared type
        ├── LowConfidence       an attempt was given up, since its model was not sure of what it wrote
        ├── NoAnswer            the planner ended without an answer
        │   └── NoProgress        it wrote nothing new in two stages: only reasoning, the same plan, or no plan at all
        ├── PlanPaused          a plan waits for a person who reviews it in another process
        ├── PolicyError         a policy raised, yielded something other than a step, or ended without an answer
        ├── Superseded          a subtask was cancelled: a sibling was accepted, or the run ended first
        └── WidthExceeded       a subtask was not started: its policy limits the width of a stage

An error that ends a run has the run so far in ``error.run``, with everything that had finished.
"""

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .plan import Plan
    from .run import Run


class SprintError(Exception):
    """Base of all errors of this library; ``run`` is the run so far, if it had started.

    Every error can be copied and pickled with its attributes, so it can leave a worker process.
    """

    run: "Run[Any, Any] | None" = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with ``args``, which are not the parameters of every ``__init__``.
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(kind: type[SprintError], args: tuple[Any, ...]) -> SprintError:
    return kind.__new__(kind, *args)


class ConfigurationError(SprintError, ValueError):
    """A mistake in the call, found before the run starts."""


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
    """The task is empty, or the model was not trained on it."""


class InvalidCheckpoint(ConfigurationError):
    """A model directory cannot be used; the message names the file and the fault."""


class NoChatTemplate(InvalidCheckpoint):
    """The model has no chat template, and nothing says that it knows the paper's format."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"{model} has no chat template, so how to hold a conversation with its model is unknown: use a model that "
            "was trained on instructions, or give its template with chat=ChatTemplate(template=…). A model that was "
            "trained on the paper's format needs dialect='tags'; dialect='json' writes plain turns"
        )


class InvalidRequest(ConfigurationError):
    """A request that no engine accepts, such as one with token ids outside the vocabulary."""


class JournalError(ConfigurationError):
    """The journal is damaged or belongs to another run."""


class EngineError(SprintError):
    """The model server or the connection failed; ``retryable`` says whether the same request may succeed later."""

    retryable: bool = False


class EngineUnavailable(EngineError):
    """The connection was refused or lost, or the engine is closed."""

    retryable = True


class EngineOverloaded(EngineError):
    """The server is too busy; ``retry_after`` is the delay in seconds that it asks for, if any."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineTimeout(EngineError):
    """A request took longer than it may."""

    retryable = True


class EngineProtocolError(EngineError):
    """The server sent an answer that cannot be understood."""


class EngineRejected(EngineError):
    """The server refused this request and would refuse it again; the message is the server's."""


class ContextOverflow(EngineRejected):
    """The context has more ``tokens`` than the model can read, its ``limit``."""

    def __init__(self, *, tokens: int, limit: int) -> None:
        super().__init__(
            f"the context has {tokens} tokens and the model reads at most {limit}: "
            "lower the token limits or the number of stages, or use a model with a longer context"
        )
        self.tokens = tokens
        self.limit = limit


class ModelRetry(SprintError):
    """Raise this in a validator or a tool: the model reads the message and tries again, within its attempts."""


class RunError(SprintError):
    """The run could not be finished; ``run`` is the run so far."""


class BudgetExceeded(RunError):
    """The budget of the run is spent; no request beyond it was sent."""


class DeadlineExceeded(BudgetExceeded):
    """The time of the budget is over."""


class ExecutionFailed(RunError):
    """A subtask failed under ``fail_fast``; ``__cause__`` is its error."""


class FunctionError(RunError):
    """A function of yours took too long, or raised what would end more than its call, as ``sys.exit`` does.

    If an executor or a tool did so, it is data. It ends the run if the checker failed in any way; ``run`` then has the
    answer, which is not verified.
    """


class ReviewTimeout(FunctionError):
    """A person, or the function that asks one, did not answer within ``Limits(review_seconds=…)``."""


class InvalidResult(RunError):
    """The model's text does not validate as the declared type.

    ``text`` is the text, ``reason`` the fault, in the words that the model reads.
    """

    def __init__(self, message: str, *, text: str, reason: str = "") -> None:
        super().__init__(message)
        self.text = text
        self.reason = reason or message


class NoAnswer(RunError):
    """The planner ended without an answer."""


class NoProgress(NoAnswer):
    """The planner wrote nothing new in two stages; the message says why, and which settings help."""


class PlanPaused(RunError):
    """A ``plan`` waits for its review: resume with the run's journal and ``review=`` the plan, changed or not."""

    def __init__(self, message: str, *, plan: "Plan") -> None:
        super().__init__(message)
        self.plan = plan


class PolicyError(RunError):
    """A policy raised, yielded something other than a step, or ended without an answer."""


class Superseded(RunError):
    """A subtask was cancelled: a sibling was accepted first, or the run ended without it."""


class LowConfidence(RunError):
    """An attempt was given up, since its model was not sure of what it wrote (``ConfidenceBound``)."""


class WidthExceeded(RunError):
    """A subtask was not started: its policy limits the width of a stage."""


def run_of(error: BaseException) -> "Run[Any, Any] | None":
    """Return the run so far from the error or the cancellation that ended it; None if it had not started.

    A run leaves its record on whatever ends it, in ``error.run``: also on ``asyncio.CancelledError``, on the
    ``KeyboardInterrupt`` that ``run_sync`` raises after Ctrl-C, and on errors that are no ``SprintError``.
    """
    run: Run[Any, Any] | None = vars(error).get("run")
    return run


def message_of(error: BaseException) -> str:
    r"""Return the message of any exception, even if it cannot give one, as text that UTF-8 can hold.

    That of a group, which a task group raises, names the first of its errors.

    >>> message_of(FileNotFoundError("caf\udce9.txt"))
    'caf\\udce9.txt'
    >>> message_of(ExceptionGroup("unhandled errors", [ValueError("no such word")]))
    'unhandled errors (1 sub-exception), ValueError: no such word'
    """
    try:
        message = str(error)
    except Exception as broken:
        message = f"(no message, since reading it raised {type(broken).__name__})"
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        message = f"{message}, {describe(group.exceptions[0])}"
    return escape_surrogates(message)


def describe(error: BaseException) -> str:
    """Return the type and the message of any exception: ``ValueError: no such word``."""
    return f"{type(error).__name__}: {message_of(error)}"


def escape_surrogates(text: str) -> str:
    """Replace each half of a surrogate pair by its escape, since neither UTF-8 nor JSON can hold it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def show(value: object) -> str:
    """Return the beginning of any value's ``repr``, even if it cannot give one, as text that UTF-8 can hold.

    >>> show("a" * 300)[-6:]
    'aaaaa…'
    """
    try:
        text = repr(value)
    except Exception as broken:
        text = f"(a {type(value).__name__}, whose repr raised {type(broken).__name__})"
    return escape_surrogates(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


_LONGEST = 200
"""The most characters of a value in a message."""
