"""Reinforcement learning on the critical path: right answers, and of those the quick ones.

Names are imported when they are first used, so importing this package does not load torch.

>>> from sprint_finetune.rl import RlSettings
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .scoring import Scored, advantages, rewards
    from .settings import RlProblem, RlSettings
    from .training import train

_HOMES = {
    "RlSettings": ".settings",
    "RlProblem": ".settings",
    "Scored": ".scoring",
    "rewards": ".scoring",
    "advantages": ".scoring",
    "train": ".training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


__all__ = ["RlSettings", "RlProblem", "Scored", "rewards", "advantages", "train"]
