"""Functions that hear the events of a run; one that fails does not end the run."""

import inspect
from collections.abc import Callable

from sprint_agents.errors import ConfigurationError
from sprint_agents.events import Event
from sprint_agents.logs import log

Listener = Callable[[Event], object]
"""Called on the event loop with each event of a run; what it returns is ignored."""


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


def guarded(listener: Listener) -> Listener:
    """Return a listener for one run that is not called again after it has raised."""
    failed = False

    def hear(event: Event) -> None:
        nonlocal failed
        if not failed:
            try:
                listener(event)
            except Exception as error:
                failed = True
                log("warning", "listener.failed", error=error, kind=event.kind)

    return hear
