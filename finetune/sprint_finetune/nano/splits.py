"""The split of every task into training and held-out problems.

A held-out problem is never used for training, whatever the seed.
"""

import hashlib
from typing import Literal

from sprint_agents.nano.tasks import Countdown, Task

Split = Literal["train", "held_out"]
"""Training problems, or held-out problems for evaluation."""

Family = Literal["countdown", "arithmetic", "multiplication"]
"""A kind of task, named as in ``sprint_agents.nano.tasks.FAMILIES``."""

HELD_OUT_SHARE = 0.05


def split_of(task: Task) -> Split:
    """Return the split of a problem, by a hash of its content.

    A Countdown problem is hashed by its sorted numbers and its target, so two orders of the same numbers share a
    split.
    """
    key = f"{sorted(task.numbers)}:{task.target}" if isinstance(task, Countdown) else task.prompt
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "held_out" if share < HELD_OUT_SHARE else "train"
