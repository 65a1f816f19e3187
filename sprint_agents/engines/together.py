"""What tasks ask for in the same step of an event loop is asked for together.

A fan-out encodes the headers of its executors at the same time, and a join what it writes between their results. By a
server's tokenizer, each would be a request.

Invariants:

- Each task gets its own answer, or its own copy of the error.
- If the task that asks for all is cancelled, the others ask again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Generic, TypeVar

from sprint_agents.errors import EngineError

T = TypeVar("T")


class Together(Generic[T]):
    """Asks by ``ask``, which returns the answers for some texts, in order."""

    def __init__(self, ask: Callable[[Sequence[str]], Awaitable[Sequence[T]]]) -> None:
        self._ask = ask
        self._open: dict[asyncio.AbstractEventLoop, dict[str, asyncio.Future[T | EngineError | None]]] = {}

    async def get(self, text: str) -> T:
        """Return the answer for ``text``.

        Raises:
            EngineError: what ``ask`` raises.
        """
        loop = asyncio.get_running_loop()
        while (others := self._open.get(loop)) is not None:
            answer = await asyncio.shield(others.setdefault(text, loop.create_future()))
            if isinstance(answer, EngineError):
                raise copy(answer) from answer
            if answer is not None:
                return answer
        return await self._ask_for_all(text, loop)

    async def _ask_for_all(self, text: str, loop: asyncio.AbstractEventLoop) -> T:
        others = self._open[loop] = {}
        answers: Sequence[T | EngineError | None] = ()
        try:
            try:
                await asyncio.sleep(0)  # the other tasks of this step
            finally:
                del self._open[loop]
            own, *answers = await self._ask([text, *others])
            return own
        except EngineError as error:
            answers = [error] * len(others)
            raise
        finally:
            for future, answer in zip(others.values(), answers or [None] * len(others), strict=True):
                future.set_result(answer)
