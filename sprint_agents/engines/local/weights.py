"""The tensors of a checkpoint's ``*.safetensors`` files, read one at a time. Imports torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"


class Weights:
    """The weights in ``directory``, as ``dtype`` on ``device``.

    Raises:
        OSError, ValueError, SafetensorError: a file is missing or damaged.
    """

    def __init__(self, directory: Path, *, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._file_of: dict[str, Any] = {}
        if (directory / _FILE).is_file():
            names = [_FILE]
        else:
            index: Mapping[str, Mapping[str, str]] = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
            names = sorted({*index["weight_map"].values()})
        for name in names:
            file: Any = safe_open(directory / name, framework="pt")
            self._file_of.update(dict.fromkeys(file.keys(), file))

    def read(self, name: str, *shape: int) -> Tensor:
        """Return a copy of a tensor of this shape.

        Raises:
            LookupError: the checkpoint does not have such a tensor.
        """
        if name not in self._file_of:
            raise LookupError(name)
        stored: Tensor = self._file_of[name].get_tensor(name)
        if stored.shape != shape or not stored.is_floating_point():
            raise LookupError(f"{name} has the shape {[*stored.shape]}")
        return stored.to(self._device, self._dtype, copy=True)
