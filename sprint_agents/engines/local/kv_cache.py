"""Memory of keys and values: one slab for the tails of decoding sequences, one exact tensor for everything else.

Invariants:

- A segment holds the keys and values of the tokens that one request computed itself, never those of its prefix.
  So the memory of a fork is its own new tokens.
- The tokens of a segment are, in order, its body (one tensor of exactly the right length) and its tail (a row of the
  slab). Only segments of decoding sequences have a tail. Their rows are compact, so a decode step reads all tails in
  one batched operation over the first rows.
- A full tail moves into the body. Rows therefore stay short however much is generated, and a body is long enough to
  be worth a separate operation.
- ``KVCache.tokens`` counts the stored tokens exactly. The unused room of the slab is not counted; it is at most
  ``tail_capacity`` tokens a row.

Example: a request computes the prompt tokens ``a b c`` and decodes ``d e f g h``, with a tail capacity of 4::

    allocate(3), prefill    body a b c              no tail
    add_tail                body a b c              tail, row 2: empty
    four decode steps       body a b c              tail, row 2: d e f g     full
    make_room               body a b c d e f g      tail, row 2: empty
    one decode step         body a b c d e f g      tail, row 2: h
    remove_tail             body a b c d e f g h    no tail; the last row of the slab moves to row 2

A prompt of one or two tokens (half the capacity) would start in the tail and leave no body.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_MIN_ROWS = 8
_MIN_ROW_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shape of a model's keys: ``group`` query heads read each of ``heads`` key heads."""

    layers: int
    heads: int
    group: int
    width: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Count the bytes of one token's keys and values in all layers."""
        return 2 * self.layers * self.heads * self.width * self.dtype.itemsize


class KVSegment:
    """The keys and values of one request's own tokens, in order."""

    __slots__ = ("_cache", "body", "row", "tail_length")

    def __init__(self, cache: "KVCache", body: Tensor | None) -> None:
        self._cache = cache
        self.body = body
        """``[layers, 2, heads, tokens, width]``."""
        self.row: int | None = None
        """The slab row of the tail; None without a tail."""
        self.tail_length = 0

    @property
    def body_length(self) -> int:
        """Count the tokens in the body."""
        return 0 if self.body is None else self.body.shape[3]

    def truncate(self, stop: int) -> None:
        """Free the tokens from offset ``stop`` to the end."""
        self._cache.keep(self, [(0, stop)])


@dataclass(slots=True)
class KVCache:
    """The tensors of all segments, and the number of tokens in them."""

    geometry: Geometry
    tail_capacity: int
    tokens: int = 0
    rows: list[KVSegment] = field(default_factory=list[KVSegment])
    """The segments that have a tail, by slab row."""
    slab: Tensor | None = None
    """``[layers, 2, rows, heads, tokens, width]``."""

    def allocate(self, tokens: int, *, after: KVSegment | None = None) -> KVSegment:
        """Make room for ``tokens`` more tokens in the body of ``after``, or of a new segment, for a prefill to fill."""
        self.tokens += tokens
        segment = after or KVSegment(self, None)
        if tokens:
            room = self.empty(tokens)
            segment.body = room if segment.body is None else torch.cat([segment.body, room], dim=3)
        return segment

    def add_tail(self, segment: KVSegment) -> None:
        """Give ``segment`` a tail; a short body moves into it, which saves a separate operation per step."""
        body = segment.body
        segment.row = len(self.rows)
        self.rows.append(segment)
        if body is not None and 2 * segment.body_length <= self.tail_capacity:
            segment.tail_length, segment.body = segment.body_length, None
        slab = self._grow_slab(segment.tail_length + 1)
        if body is not None and segment.body is None:
            slab[:, :, segment.row, :, : segment.tail_length] = body

    def count_token(self, segment: KVSegment) -> None:
        """Count the token that a forward pass just wrote to the tail of ``segment``."""
        segment.tail_length += 1
        self.tokens += 1

    def make_room(self) -> bool:
        """Make room for one more token in every tail; return whether any tensor was replaced."""
        full = [segment for segment in self.rows if segment.tail_length == self.tail_capacity]
        for segment in full:
            segment.body = self._copy(segment, [(0, segment.body_length + segment.tail_length)])
            segment.tail_length = 0
        before = self.slab
        if self.rows:
            self._grow_slab(max(segment.tail_length for segment in self.rows) + 1)
        return bool(full) or self.slab is not before

    def remove_tail(self, segment: KVSegment) -> int:
        """Move the tail of ``segment`` into its body and the last slab row to the freed row; return that row."""
        assert segment.row is not None
        assert self.slab is not None
        segment.body = self._copy(segment, [(0, segment.body_length + segment.tail_length)])
        row, last = segment.row, self.rows.pop()
        if last is not segment:
            self.slab[:, :, row, :, : last.tail_length] = self.slab[:, :, last.row, :, : last.tail_length]
            self.rows[row], last.row = last, row
        segment.row, segment.tail_length = None, 0
        return row

    def keep(self, segment: KVSegment, ranges: Sequence[tuple[int, int]]) -> None:
        """Keep only the tokens in ``ranges``, from start to stop, of a segment without a tail."""
        assert segment.row is None
        before = segment.body_length
        if sum(stop - start for start, stop in ranges) < before:
            segment.body = self._copy(segment, ranges)
        self.tokens += segment.body_length - before

    def slices(self, segment: KVSegment, start: int, stop: int) -> list[tuple[Tensor, int, int]]:
        """Find the tokens from ``start`` to ``stop``, in the body, the tail, or both.

        Returns:
            One or two tensors ``[layers, 2, heads, …, width]``, each with the first and last token to read in it.

        """
        edge = segment.body_length
        found: list[tuple[Tensor, int, int]] = []
        if segment.body is not None and start < edge:
            found.append((segment.body, start, min(stop, edge)))
        if stop > edge:
            assert self.slab is not None
            assert segment.row is not None
            found.append((self.slab[:, :, segment.row], max(start, edge) - edge, stop - edge))
        return found

    def _copy(self, segment: KVSegment, ranges: Sequence[tuple[int, int]]) -> Tensor | None:
        slices = [found for start, stop in ranges if start < stop for found in self.slices(segment, start, stop)]
        return torch.cat([tensor[:, :, :, first:last] for tensor, first, last in slices], dim=3) if slices else None

    def empty(self, tokens: int) -> Tensor:
        """Make a tensor for ``tokens`` tokens, which are not counted."""
        shape = self.geometry
        return torch.empty((shape.layers, 2, shape.heads, tokens, shape.width), dtype=shape.dtype, device=shape.device)

    def _grow_slab(self, tail: int) -> Tensor:
        """Double the slab until it has a row for every segment in ``rows`` and ``tail`` tokens a row; return it.

        The slab starts small because attention reads whole rows: eight tails of ten tokens must not cost as much as
        eight of 256.
        """
        shape, old = self.geometry, self.slab
        rows, tokens = (
            (_MIN_ROWS, min(_MIN_ROW_TOKENS, self.tail_capacity)) if old is None else (old.shape[2], old.shape[4])
        )
        while rows < len(self.rows):
            rows *= 2
        while tokens < tail:
            tokens = min(2 * tokens, self.tail_capacity)
        if old is not None and (rows, tokens) == (old.shape[2], old.shape[4]):
            return old
        # Zeros: masked places are multiplied by 0, and 0 times NaN would be NaN.
        slab = torch.zeros(
            (shape.layers, 2, rows, shape.heads, tokens, shape.width), dtype=shape.dtype, device=shape.device
        )
        if old is not None:
            slab[:, :, : old.shape[2], :, : old.shape[4]] = old
        self.slab = slab
        return slab
