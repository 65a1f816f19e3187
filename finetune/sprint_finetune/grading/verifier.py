"""Compare two answers, in this process if that is simple, else in a process that may be killed.

Parsing LaTeX, and sympy, may hang or exhaust memory on what a model wrote.
"""

from importlib.util import find_spec
from types import TracebackType
from typing import Protocol, Self

from sprint_agents.errors import MissingExtra
from sprint_agents.subprocesses import Subprocesses

from .letters import choice_letter, is_letter, several_letters
from .notation import plain
from .quantities import quantity_of, same_quantity

_LONGEST = 1_000
"""Characters of an answer that is read in this process."""


class Verifier(Protocol):
    """Compares two answers by their value."""

    async def equal(self, reference: str, stated: str) -> bool | None:
        """Tell whether the answers are equal, or return None if that could not be decided in time."""
        ...


class MathVerifier:
    """A ``Verifier`` of letters, numbers with units, sets, intervals, equations and expressions.

    Expressions are parsed by math-verify's parser, in up to ``processes`` processes, with ``seconds`` for each
    comparison. Use it as an async context manager.
    """

    def __init__(self, *, processes: int = 2, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._processes = Subprocesses("sprint_finetune.grading.worker", processes=processes)

    async def equal(self, reference: str, stated: str) -> bool | None:
        """Tell whether two answers are equal, or return None if the comparison took too long or failed.

        Raises:
            MissingExtra: math-verify is not installed, and the answers are neither letters nor numbers.
        """
        if max(len(reference), len(stated)) <= _LONGEST and (found := equal_at_sight(reference, stated)) is not None:
            return found
        if find_spec("math_verify") is None:
            raise MissingExtra("finetune", "math-verify")
        return await self._processes.ask({"reference": reference, "stated": stated}, seconds=self._seconds)

    async def __aenter__(self) -> Self:
        await self._processes.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._processes.__aexit__(kind, error, trace)


def equal_at_sight(reference: str, stated: str) -> bool | None:
    """Compare letters of multiple choice, numbers with units, and equal texts; None if more is needed.

    >>> equal_at_sight("(B)", "B. 11 carbons"), equal_at_sight("1/2", "50%"), equal_at_sight("x", "y")
    (True, True, None)
    """
    if is_letter(reference):
        return choice_letter(reference) == choice_letter(stated)
    if letters := several_letters(reference):
        return letters == several_letters(stated)
    one, other = plain(reference), plain(stated)
    if not one or not other:
        return False
    if one == other:
        return True
    a, b = quantity_of(one), quantity_of(other)
    return same_quantity(a, b) if a and b else None
