"""The lines of a trace: the unit that extraction, packing and replay all count in.

Blank lines and rules (``---``) do not count. Text after ``</think>`` is the conclusion. Its lines have no numbers; they
become the final answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .records import LineRange
from .units import units_of

_CLOSE = "</think>"


@dataclass(frozen=True, slots=True)
class TraceLines:
    """The lines of a trace, without trailing whitespace: the numbered ``chain`` of thought, and the conclusion."""

    chain: tuple[str, ...]
    conclusion: tuple[str, ...]


@lru_cache(maxsize=64)
def lines_of(trace: str) -> TraceLines:
    r"""Cut a trace into lines.

    >>> lines_of("<think>\nLet me see.\n\n6*7 = 42\n</think>\nIt is 42.")
    TraceLines(chain=('Let me see.', '6*7 = 42'), conclusion=('It is 42.',))
    """
    chain, closed, conclusion = trace.rpartition(_CLOSE)
    if not closed:
        chain, conclusion = trace, ""
    return TraceLines(_content(chain.replace("<think>", "\n")), _content(conclusion))


def in_words(answer: str) -> bool:
    """Tell whether an answer consists only of words, such as "no solution"."""
    return not any(sign.isdigit() for sign in answer)


def numbers_in(ranges: Iterable[LineRange]) -> list[int]:
    """List the line numbers in ``ranges``, in order.

    >>> numbers_in([LineRange(1, 2), LineRange(5, 5)])
    [1, 2, 5]
    """
    return [number for first, last in ranges for number in range(first, last + 1)]


def as_ranges(numbers: Iterable[int]) -> tuple[LineRange, ...]:
    """Join ascending line numbers into ranges.

    >>> as_ranges([1, 2, 5])
    (LineRange(first=1, last=2), LineRange(first=5, last=5))
    """
    ranges: list[LineRange] = []
    for number in numbers:
        if ranges and ranges[-1].last == number - 1:
            ranges[-1] = LineRange(ranges[-1].first, number)
        else:
            ranges.append(LineRange(number, number))
    return tuple(ranges)


def lines_at(lines: Sequence[str], numbers: Iterable[int]) -> list[str]:
    """Return the lines with these numbers."""
    return [lines[number - 1] for number in numbers]


def _content(text: str) -> tuple[str, ...]:
    return tuple(unit.text for unit in units_of(text))
