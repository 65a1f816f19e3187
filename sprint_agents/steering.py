"""Messages for a run in progress, which its planner reads at the next stage."""

from collections import deque

from .arguments import check_argument
from .errors import ConfigurationError


class Steering:
    """Says something to a run while it is in progress; pass it as ``run(task, steering=…)``, to one run.

    The planner reads what was said when its next stage begins, as a message of the user. It is outside text: it cannot
    end a turn, or be taken for a part of a plan. What is said after the last stage has begun stays ``unread``.

    >>> steering = Steering()
    >>> steering.say("Leave out the year 2020.")
    >>> steering.unread
    ('Leave out the year 2020.',)
    """

    def __init__(self) -> None:
        self._said = deque[str]()

    def say(self, text: str) -> None:
        """Add a message; from any thread.

        Raises:
            ConfigurationError: it is not text, or is empty.
        """
        check_argument("what is said", text, str)
        if not text.strip():
            raise ConfigurationError("what is said is empty: say what the planner shall take into account")
        self._said.append(text)

    @property
    def unread(self) -> tuple[str, ...]:
        """The messages that no stage has read yet."""
        return tuple(self._said)

    def take(self) -> tuple[str, ...]:
        """Return the messages that are unread, which are read now."""
        said: list[str] = []
        while self._said:
            said.append(self._said.popleft())
        return tuple(said)
