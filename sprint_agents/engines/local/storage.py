"""Where keys and values live: what is being decoded in one slab of tails, all else in exact pieces.

Invariants:

- A span holds the keys and values of the tokens that one request computed itself, never those of its prefix:
  the memory of a fork is its own new tokens.
- A span's tokens are, in order, its body (one tensor, exactly as long as it must be) and then its tail (a row of
  the slab). Rows are compact, so a decode step reads all tails by one batched operation over ``rows[:n]``.
- A tail that is full moves into the body. Rows therefore stay short, whatever is generated, and a body is long
  enough to be worth an operation of its own.
- ``tokens`` counts what is stored, to the token; the slab's unused room comes on top, at most ``tail_tokens`` a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_FEWEST_ROWS = 8
_SHORTEST_TAIL = 64


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
        """Keys and values of one token, all layers."""
        return 2 * self.layers * self.heads * self.width * self.dtype.itemsize


class Span:
    """The keys and values of one request's own tokens, in order."""

    __slots__ = ("_store", "body", "row", "tail")

    def __init__(self, store: "Store", body: Tensor | None) -> None:
        self._store = store
        self.body = body
        """``[layers, 2, heads, tokens, width]``."""
        self.row: int | None = None
        self.tail = 0

    @property
    def body_tokens(self) -> int:
        """The number of tokens in the body."""
        return 0 if self.body is None else self.body.shape[3]

    def truncate(self, stop: int) -> None:
        """Forget the tokens from offset ``stop`` on, giving their memory back."""
        self._store.keep(self, [(0, stop)])


@dataclass(slots=True)
class Store:
    """All spans' tensors, and the count of what they hold."""

    geometry: Geometry
    tail_tokens: int
    tokens: int = 0
    rows: list[Span] = field(default_factory=list[Span])
    """The spans that have a tail, by slab row."""
    slab: Tensor | None = None
    """``[layers, 2, rows, heads, tokens, width]``."""

    def begin(self, tokens: int, *, after: Span | None = None) -> Span:
        """Return a span, ``after`` or a new one, whose body has room for ``tokens`` more, for the prefill to fill."""
        self.tokens += tokens
        span = after or Span(self, None)
        if tokens:
            room = self._empty(tokens)
            span.body = room if span.body is None else torch.cat([span.body, room], dim=3)
        return span

    def join(self, span: Span) -> None:
        """Give ``span`` a tail; a short body moves there, so that it costs no operation of its own."""
        body = span.body
        span.row = len(self.rows)
        self.rows.append(span)
        if body is not None and 2 * span.body_tokens <= self.tail_tokens:
            span.tail, span.body = span.body_tokens, None
        slab = self._room(span.tail + 1)
        if body is not None and span.body is None:
            slab[:, :, span.row, :, : span.tail] = body

    def append(self, span: Span) -> None:
        """Count the token that the step just wrote to the tail of ``span``."""
        span.tail += 1
        self.tokens += 1

    def make_room(self) -> bool:
        """Let every tail take one more token; whether anything moved."""
        full = [span for span in self.rows if span.tail == self.tail_tokens]
        for span in full:
            span.body = self._copy(span, [(0, span.body_tokens + span.tail)])
            span.tail = 0
        before = self.slab
        if self.rows:
            self._room(max(span.tail for span in self.rows) + 1)
        return bool(full) or self.slab is not before

    def leave(self, span: Span) -> int:
        """Move the tail of ``span`` to its body and the last row into its place; return that place."""
        assert span.row is not None
        assert self.slab is not None
        span.body = self._copy(span, [(0, span.body_tokens + span.tail)])
        row, last = span.row, self.rows.pop()
        if last is not span:
            self.slab[:, :, row, :, : last.tail] = self.slab[:, :, last.row, :, : last.tail]
            self.rows[row], last.row = last, row
        span.row, span.tail = None, 0
        return row

    def keep(self, span: Span, ranges: Sequence[tuple[int, int]]) -> None:
        """Keep exactly the tokens in ``ranges``, start to stop, of a span without a tail."""
        assert span.row is None
        before = span.body_tokens
        if sum(stop - start for start, stop in ranges) < before:
            span.body = self._copy(span, ranges)
        self.tokens += span.body_tokens - before

    def pieces(self, span: Span, start: int, stop: int) -> list[tuple[Tensor, int, int]]:
        """Find the tokens from ``start`` to ``stop``: up to two ``[layers, 2, heads, …, width]`` with their bounds."""
        edge = span.body_tokens
        found: list[tuple[Tensor, int, int]] = []
        if span.body is not None and start < edge:
            found.append((span.body, start, min(stop, edge)))
        if stop > edge:
            assert self.slab is not None
            assert span.row is not None
            found.append((self.slab[:, :, span.row], max(start, edge) - edge, stop - edge))
        return found

    def _copy(self, span: Span, ranges: Sequence[tuple[int, int]]) -> Tensor | None:
        pieces = [piece for start, stop in ranges if start < stop for piece in self.pieces(span, start, stop)]
        return torch.cat([tensor[:, :, :, first:last] for tensor, first, last in pieces], dim=3) if pieces else None

    def _empty(self, tokens: int) -> Tensor:
        shape = self.geometry
        return torch.empty((shape.layers, 2, shape.heads, tokens, shape.width), dtype=shape.dtype, device=shape.device)

    def _room(self, tail: int) -> Tensor:
        """Return the slab, grown by doubling until it has all rows, and ``tail`` tokens in each."""
        shape, old = self.geometry, self.slab
        rows, tokens = (
            (_FEWEST_ROWS, min(_SHORTEST_TAIL, self.tail_tokens)) if old is None else (old.shape[2], old.shape[4])
        )
        while rows < len(self.rows):
            rows *= 2
        while tokens < tail:
            tokens = min(2 * tokens, self.tail_tokens)
        if old is not None and (rows, tokens) == (old.shape[2], old.shape[4]):
            return old
        # Zeros: masked places are multiplied by 0, which must not meet a NaN.
        slab = torch.zeros(
            (shape.layers, 2, rows, shape.heads, tokens, shape.width), dtype=shape.dtype, device=shape.device
        )
        if old is not None:
            slab[:, :, : old.shape[2], :, : old.shape[4]] = old
        self.slab = slab
        return slab
