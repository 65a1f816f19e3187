"""The costs of decode steps, measured while the engine works."""

import math

from sprint_agents.step_costs import StepCosts

_FIRST = 64
"""How many steps are measured before the costs are known for the first time."""

_LEAST = 3
"""How many steps of a width are needed. The fastest counts, since other programs only make steps slower."""


class StepTimes:
    """The fastest step of each width so far; the ``costs`` change after 64 steps, 128, 256, and so on."""

    __slots__ = ("_counts", "_fastest", "_next", "_steps", "costs")

    def __init__(self) -> None:
        self.costs: StepCosts | None = None
        self._counts: dict[int, int] = {}
        self._fastest: dict[int, float] = {}
        self._steps, self._next = 0, _FIRST

    def add(self, width: int, seconds: float) -> None:
        """Count a step that did nothing but decode ``width`` sequences."""
        self._counts[width] = self._counts.get(width, 0) + 1
        self._fastest[width] = min(seconds, self._fastest.get(width, seconds))
        self._steps += 1
        if self._steps >= self._next:
            self._next = 2 * self._steps
            self.costs = self._known()

    def _known(self) -> StepCosts | None:
        known: dict[int, float] = {}
        cost = math.inf
        for width in sorted(self._fastest, reverse=True):
            if self._counts[width] >= _LEAST:
                known[width] = cost = min(cost, self._fastest[width])  # a narrower step does not cost more
        return StepCosts(seconds=known) if len(known) > 1 else None
