"""Functions that hear the events of a run; one that fails does not end the run."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sprint_agents.errors import ConfigurationError
from sprint_agents.events import Event, ExecutorWrote, InnerEvent, PlannerWrote
from sprint_agents.functions import as_exception
from sprint_agents.logs import log

Listener = Callable[[Event], object]
"""Called on the event loop with each event of a run; what it returns is ignored.

One whose attribute ``texts`` is False is not called with ``PlannerWrote`` and ``ExecutorWrote``, the pieces of text.
"""


@dataclass(frozen=True, slots=True)
class Relay:
    """A listener that passes events on in another form, pieces of text only if the receiver takes them."""

    listener: Listener
    texts: bool

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        self.listener(event)


def takes_texts(listener: Listener) -> bool:
    """Return whether a listener is called with what models write, piece by piece."""
    return getattr(listener, "texts", True)


def check_listener(listener: Listener) -> Listener:
    """Return a listener of the user's.

    Raises:
        ConfigurationError: it cannot be called, or is async, so that calling it would do nothing.
    """
    if not callable(listener):  # pyright: ignore[reportUnnecessaryComparison] - it may come from anywhere
        raise ConfigurationError(f"a listener is {listener!r}, which cannot be called: pass a function of an event")
    if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(type(listener).__call__):
        name = getattr(listener, "__name__", type(listener).__name__)
        raise ConfigurationError(
            f"the listener {name} is async, and a run does not wait for its listeners: pass a plain function, which "
            "may put events into a queue, or read them with sprint.stream(task)"
        )
    return listener


def takers(event: Event, listeners: Sequence[Listener]) -> Sequence[Listener]:
    """Return the listeners that are called with an event."""
    while isinstance(event, InnerEvent):
        event = event.event
    if not isinstance(event, PlannerWrote | ExecutorWrote):
        return listeners
    return [listener for listener in listeners if takes_texts(listener)]


def guarded(listener: Listener) -> Listener:
    """Return a listener for one run that is not called again after it has raised."""
    failed = False

    def hear(event: Event) -> None:
        nonlocal failed
        if not failed:
            try:
                listener(event)
            except BaseException as error:
                failed = True
                log("warning", "listener.failed", error=as_exception(error), kind=event.kind)

    return Relay(hear, takes_texts(listener))
