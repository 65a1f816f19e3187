"""Whether an answer to a case is right: by value, by a built-in program, or by a function of yours."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from sprint_agents.errors import FunctionError, describe
from sprint_agents.functions import Threads, call_function, check_function
from sprint_finetune.grading import MathVerifier
from sprint_finetune.grading.grade import grade_text

from .cases import Case

Check = Callable[[Case, str], bool | Awaitable[bool | None] | None]
"""Decides whether an answer is right, async or not; None if it cannot decide. Whatever it raises becomes data."""


async def by_program(case: Case, answer: str) -> bool | None:
    """Check an answer with ``Case.check``."""
    return case.check(answer)


@asynccontextmanager
async def grader() -> AsyncGenerator[Callable[[Case, str], Awaitable[bool | None]]]:
    """Open the check that curation and the command line use too (``sprint_finetune.grading``).

    It finds the answer in what the model wrote, and compares it with the reference of the case by value.
    """
    async with MathVerifier() as verifier:

        async def check(case: Case, answer: str) -> bool | None:
            return await grade_text(case.task, reference=case.answer, text=answer, verifier=verifier)

        yield check


class Checker:
    """Calls a check with a time limit; an async one on the event loop, any other in a thread.

    >>> import asyncio
    >>> def ends_with(case: Case, answer: str) -> bool:
    ...     return answer.endswith(case.row["suffix"])
    >>> async def main():
    ...     with Checker(ends_with, seconds=10) as checker:
    ...         return await checker.verdict(Case(id="1", task="", row={"suffix": "."}), "So it is")
    >>> asyncio.run(main())
    (False, None)
    """

    def __init__(self, check: Check, *, seconds: float, threads: int = 8) -> None:
        """Wrap ``check``, which gets ``seconds`` for each answer, in at most so many ``threads`` at once.

        Raises:
            ConfigurationError: ``check`` is not a function.
        """
        check_function(check, what="check=")
        self._check, self._seconds = check, seconds
        self._threads = Threads(threads)

    def __enter__(self) -> "Checker":
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown()

    async def verdict(self, case: Case, answer: str) -> tuple[bool | None, str | None]:
        """Return whether the answer is right, and the error if the check failed."""
        try:
            verdict = await call_function(self._check, case, answer, threads=self._threads, seconds=self._seconds)
            if verdict is not None and not isinstance(verdict, bool):
                raise FunctionError(f"it returned {verdict!r:.80}, which is not True, False or None")
        except Exception as error:
            return None, describe(error)
        return verdict, None
