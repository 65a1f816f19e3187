"""The stream of one run: its events come out, and what is said to it goes in."""

from collections.abc import Callable, Coroutine
from typing import Any

from sprint_agents.errors import ConfigurationError
from sprint_agents.events import Event
from sprint_agents.steering import Steering
from sprint_agents.stream import AsyncStream


class RunStream(AsyncStream[Event]):
    """The events of one run, as ``Sprint.stream`` returns them."""

    __slots__ = ("_steering",)

    def __init__(
        self, produce: Callable[[Callable[[Event], None]], Coroutine[Any, Any, object]], *, steering: Steering
    ) -> None:
        super().__init__(produce)
        self._steering = steering

    def say(self, text: str) -> None:
        """Say something to the planner, which it reads when its next stage begins.

        Raises:
            ConfigurationError: it is not text, or is empty; or the run has ended.
        """
        if self.ended:
            raise ConfigurationError("the run has ended and reads nothing more: say it before, or in another run")
        self._steering.say(text)
