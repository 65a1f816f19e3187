"""What every part is told."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

Figures = dict[str, Any]
"""What a part found out, as JSON."""


@dataclass(frozen=True)
class Options:
    """The device, whether shapes and loads are tiny, and a folder that all parts share."""

    device: str
    dry_run: bool
    folder: Path

    def __getitem__(self, sizes: tuple[Any, Any]) -> Any:
        """Choose the first of two sizes, or the second in a dry run."""
        return sizes[self.dry_run]

    @cached_property
    def on_cuda(self) -> bool:
        """Whether the device is a GPU of torch's CUDA backend."""
        return torch.device(self.device).type == "cuda"

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds by the clock, after everything that was submitted to the device."""
        return self._synchronised if self.on_cuda else time.perf_counter

    def _synchronised(self) -> float:
        torch.cuda.synchronize(self.device)
        return time.perf_counter()
