"""Products of activations with a model's weights, which are stored as the device reads them fastest.

On CPUs, oneDNN multiplies a few rows by weights in its own blocked layout two to three times as fast as by plain ones,
since the usual kernels rearrange the weights in every call. It also adds the residual in the same pass. torch reaches
these operations for its compiler, under names that are not public: ``has_packed`` tries them out, and ``PlainLinear``
is used where they are missing or compute something else.

Each call of oneDNN costs some 30 microseconds before it computes anything. So tiny matrices are multiplied by plain
operations, and so is a single row by the matrices of a small model, which are stored in both layouts.
"""

from functools import cache
from typing import Any, Protocol, cast

import torch
from torch import Tensor

_ROWS = 16
"""The number of rows for which oneDNN chooses the layout. The one that it chooses for a single row is slow for more."""

_TINY = 65_536
"""A matrix with at most so many numbers is not worth a call of oneDNN."""


class Linear(Protocol):
    """A matrix of weights, ``[out, in]``, with its bias if it has one. Activations are ``[rows, in]``, contiguous."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the product, ``[rows, out]``."""
        ...

    def plus(self, rows: Tensor, other: Tensor) -> Tensor:
        """Return the product plus ``other``."""
        ...


class PlainLinear:
    """Weights as torch stores them, for every device. They are not copied."""

    __slots__ = ("_bias", "_columns")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._columns, self._bias = weight.t(), bias

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the product, ``[rows, out]``."""
        return torch.mm(rows, self._columns) if self._bias is None else torch.addmm(self._bias, rows, self._columns)

    def plus(self, rows: Tensor, other: Tensor) -> Tensor:
        """Return the product plus ``other``."""
        if self._bias is not None:
            return self(rows).add_(other)
        return torch.addmm(other, rows, self._columns)


class PackedLinear:
    """A copy of the weights in oneDNN's layout, for CPUs. It takes as much memory as they do."""

    __slots__ = ("_bias", "_binary", "_unary", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        operations = cast("Any", torch.ops.mkldnn)
        self._unary = operations._linear_pointwise.default
        self._binary = operations._linear_pointwise.binary
        self._weight: Tensor = operations._reorder_linear_weight(weight.contiguous(), _ROWS)
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the product, ``[rows, out]``."""
        return self._unary(rows, self._weight, self._bias, "none", [], "")

    def plus(self, rows: Tensor, other: Tensor) -> Tensor:
        """Return the product plus ``other``."""
        return self._binary(rows, other, self._weight, self._bias, "add")


class PairedLinear:
    """Both: the plain weights for one row, and the packed ones for more."""

    __slots__ = ("_many", "_one")

    def __init__(self, one: PlainLinear, many: PackedLinear) -> None:
        self._one, self._many = one, many

    def _choose(self, rows: Tensor) -> PlainLinear | PackedLinear:
        return self._one if rows.shape[0] == 1 else self._many

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the product, ``[rows, out]``."""
        return self._choose(rows)(rows)

    def plus(self, rows: Tensor, other: Tensor) -> Tensor:
        """Return the product plus ``other``."""
        return self._choose(rows).plus(rows, other)


def make_linear(weight: Tensor, bias: Tensor | None = None, *, twice: bool = False) -> Linear:
    """Store weights for their device; ``twice`` allows both layouts where that is faster."""
    if not has_packed(weight.device, weight.dtype):
        return PlainLinear(weight, bias)
    tiny = weight.numel() <= _TINY
    if not (tiny or twice):
        return PackedLinear(weight, bias)
    plain = PlainLinear(weight.t().contiguous().t(), bias)  # products of few rows are faster if columns are contiguous
    return plain if tiny else PairedLinear(plain, PackedLinear(weight, bias))


@cache
def has_packed(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether ``PackedLinear`` exists here and computes the same as ``PlainLinear``."""
    if device.type != "cpu":
        return False
    generator = torch.Generator().manual_seed(0)
    draw = (torch.randn(size, generator=generator) for size in ((3, 32), (48, 32), (48,), (3, 48)))
    rows, weight, bias, other = (tensor.to(dtype) for tensor in draw)
    try:
        plain, packed = (_all_products(kind(weight, bias), rows, other) for kind in (PlainLinear, PackedLinear))
        tolerance = 64 * torch.finfo(dtype).eps
        return torch.allclose(plain.float(), packed.float(), rtol=tolerance, atol=tolerance)
    except (AttributeError, RuntimeError):  # this build of torch or this processor lacks an operation
        return False


def _all_products(linear: Linear, rows: Tensor, other: Tensor) -> Tensor:
    return torch.stack([linear(rows), linear.plus(rows, other)])
