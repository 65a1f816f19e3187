"""How sprint-nano is made: its problems, traces, tokenizer and training from scratch.

Names are imported when they are first used, so importing this package does not load torch. Each family of problems has
a module: ``countdown``, ``arithmetic`` and ``multiplication``.

>>> from sprint_finetune.nano import split_of
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .export import export_checkpoint
    from .pretrain import nano_config, train
    from .splits import Family, Split, split_of
    from .tokenizer import build_tokenizer
    from .traces import Solution, SolutionStage, SolutionSubtask, chain, complete, executors, planner

_HOMES = {
    "Family": ".splits",
    "Split": ".splits",
    "split_of": ".splits",
    "Solution": ".traces",
    "SolutionStage": ".traces",
    "SolutionSubtask": ".traces",
    "chain": ".traces",
    "complete": ".traces",
    "planner": ".traces",
    "executors": ".traces",
    "build_tokenizer": ".tokenizer",
    "nano_config": ".pretrain",
    "train": ".pretrain",
    "export_checkpoint": ".export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


__all__ = [
    "Family",
    "Split",
    "split_of",
    "Solution",
    "SolutionStage",
    "SolutionSubtask",
    "chain",
    "complete",
    "planner",
    "executors",
    "build_tokenizer",
    "nano_config",
    "train",
    "export_checkpoint",
]
