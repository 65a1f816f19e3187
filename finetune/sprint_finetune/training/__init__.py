"""Fine-tune any causal model on curated trajectories.

Names are imported when they are first used, so importing this package does not load torch.

>>> from sprint_finetune.training import calls_of
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calls import Call, Piece, calls_of
    from .collation import Collator, PackedRows
    from .corpus import TrainingSample, flatten_calls, read_samples
    from .encoding import encode_calls
    from .finetune import train
    from .loss import edge_loss
    from .masks import attention_masks
    from .memory import MemoryModel, MemoryNeed
    from .settings import Lora, Settings
    from .trie import Flattened, TokenPath, flatten, pack

_HOMES = {
    "Settings": ".settings",
    "Lora": ".settings",
    "train": ".finetune",
    "TrainingSample": ".corpus",
    "read_samples": ".corpus",
    "Call": ".calls",
    "Piece": ".calls",
    "calls_of": ".calls",
    "encode_calls": ".encoding",
    "flatten_calls": ".corpus",
    "TokenPath": ".trie",
    "Flattened": ".trie",
    "flatten": ".trie",
    "pack": ".trie",
    "attention_masks": ".masks",
    "Collator": ".collation",
    "PackedRows": ".collation",
    "edge_loss": ".loss",
    "MemoryModel": ".memory",
    "MemoryNeed": ".memory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


__all__ = [
    "Settings",
    "Lora",
    "train",
    "TrainingSample",
    "read_samples",
    "Call",
    "Piece",
    "calls_of",
    "encode_calls",
    "flatten_calls",
    "TokenPath",
    "Flattened",
    "flatten",
    "pack",
    "attention_masks",
    "Collator",
    "PackedRows",
    "edge_loss",
    "MemoryModel",
    "MemoryNeed",
]
