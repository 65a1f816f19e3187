"""Records that are made for every request: frozen for type checkers, plain slotted dataclasses when the program runs.

A frozen dataclass sets each field by a call of its own: a request and what comes back of it cost three microseconds
more, of forty for a whole subtask (``benchmarks/overhead.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

RecordT = TypeVar("RecordT")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(*, kw_only: bool = False) -> Callable[[type[RecordT]], type[RecordT]]:
    """Make a class a record: slotted, compared and hashed by its fields, none of which anybody sets again.

    >>> @record()
    ... class Point:
    ...     x: int
    ...     y: int = 0
    >>> Point(1), {Point(1): "here"}[Point(1, 0)]
    (Point(x=1, y=0), 'here')
    """
    return dataclass(slots=True, unsafe_hash=True, kw_only=kw_only)
