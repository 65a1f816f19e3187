"""Lets a server serve LoRA adapters with a torch for CPUs.

SGLang 0.5.23 keeps the sizes and offsets of adapters in pinned memory (``sglang/srt/lora/layers.py``), which torch
refuses without an accelerator. With this folder in its ``PYTHONPATH``, a server uses ordinary memory instead. All else
is computed as SGLang does it (``--lora-backend torch_native``).
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _unpinned(create: Callable[..., Any]) -> Callable[..., Any]:
    def created(*values: Any, pin_memory: bool = False, **options: Any) -> Any:
        return create(*values, **options)

    return created


class _BeforeAdapters(MetaPathFinder):
    """Finds nothing; notices the import of the layers with adapters."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "sglang.srt.lora.layers":
            sys.meta_path.remove(self)
            import torch

            torch.Tensor.pin_memory = lambda self, device=None: self
            torch.tensor, torch.zeros = _unpinned(torch.tensor), _unpinned(torch.zeros)
        return None


sys.meta_path.insert(0, _BeforeAdapters())
