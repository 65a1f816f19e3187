"""Rows of flattened tries, and batches of rows of similar length."""

import random
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapreplace

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from .trie import Flattened, pack

Batch = dict[str, Tensor]
"""Padded rows: ``input_ids``, ``positions`` and ``ends`` of shape (rows, tokens), and ``parents``, ``targets`` and
``weights`` of shape (rows, edges); see ``Flattened``. ``positions`` and ``ends`` are missing if every row is a single
path, because causal attention is then correct, and faster.
"""


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes a batch of rows. Rows are padded with the id ``padding`` to a multiple of ``multiple`` tokens."""

    padding: int = 0
    multiple: int = 1

    def __call__(self, rows: Sequence[Flattened]) -> Batch:
        """Pad rows to one length. Padding tokens see only themselves, and padding edges have weight 0."""
        tokens = -(-max(len(row) for row in rows) // self.multiple) * self.multiple
        edges = max(len(row.weights) for row in rows)
        batch = {
            "input_ids": _padded([row.ids for row in rows], tokens, self.padding),
            "parents": _padded([row.parents for row in rows], edges),
            "targets": _padded([row.targets for row in rows], edges),
            "weights": _padded([row.weights for row in rows], edges),
        }
        if not all(row.is_chain for row in rows):
            batch["positions"] = _padded([row.positions for row in rows], tokens)
            own = torch.arange(1, tokens + 1)
            batch["ends"] = torch.stack([torch.cat([row.ends, own[len(row) :]]) for row in rows])
        return batch


class PackedRows(Dataset[Flattened]):
    """Rows for a data loader: tries packed to at most ``capacity`` tokens a row, or one trie a row.

    ``capacity=None`` means one trie a row. Every trie is in exactly one row. The number of rows is a multiple of
    ``multiple``, so that several processes get equally many batches and no batch is repeated. Some rows may be empty.
    ``lengths`` has the number of tokens of each row.
    """

    def __init__(self, tries: Sequence[Flattened], *, capacity: int | None = None, multiple: int = 1) -> None:
        self._tries = tries
        lengths = [len(trie) for trie in tries]
        if capacity is None:
            self.members = [[index] for index in range(len(tries))]
        else:
            self.members = balanced_bins(lengths, capacity, multiple=multiple)
        """The tries in each row, by index."""
        self._length = -(-len(self.members) // multiple) * multiple
        filled = [sum(lengths[member] for member in members) for members in self.members]
        self.lengths = filled + [len(_EMPTY)] * (self._length - len(filled))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Flattened:
        """Return the row at ``index``."""
        if not 0 <= index < self._length:
            raise IndexError(index)
        if index >= len(self.members):
            return _EMPTY
        return pack([self._tries[member] for member in self.members[index]])


def bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Distribute items over bins, longest first, each into the fullest bin with room for it; O(n log n) comparisons.

    >>> bins([5, 3, 4, 2], 7)
    [[0, 3], [2, 1]]

    Raises:
        ValueError: an item is longer than a bin.
    """
    if (longest := max(lengths, default=0)) > capacity:
        raise ValueError(f"an item of length {longest} does not fit a bin of {capacity}")
    filled: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (space left, bin), sorted
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        place = bisect_left(room, (lengths[item], -1))
        if place == len(room):
            left, index = capacity, len(filled)
            filled.append([])
        else:
            left, index = room.pop(place)
        filled[index].append(item)
        insort(room, (left - lengths[item], index))
    return filled


def balanced_bins(lengths: Sequence[int], capacity: int, *, multiple: int = 1) -> list[list[int]]:
    """Distribute items over as few bins as ``bins`` needs, rounded up to ``multiple``, about equally full.

    Longest first, each item goes into the emptiest bin. If the bins are too full for that, the result is that of
    ``bins``, and some bins are fuller than others.

    >>> bins([5, 3, 3, 2, 1], 8), balanced_bins([5, 3, 3, 2, 1], 8)
    ([[0, 1], [2, 3, 4]], [[0, 3], [1, 2, 4]])
    """
    fullest = bins(lengths, capacity)
    count = min(len(lengths), -(-len(fullest) // multiple) * multiple)
    filled: list[list[int]] = [[] for _ in range(count)]
    emptiest = [(0, index) for index in range(count)]  # a heap of (tokens, bin)
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        tokens, index = emptiest[0]
        if tokens + lengths[item] > capacity:
            return fullest
        filled[index].append(item)
        heapreplace(emptiest, (tokens + lengths[item], index))
    return filled


class BalancedOrder(Sampler[int]):
    """A random order of rows in which the ``together`` rows of an optimiser step have similar lengths.

    Rows are sorted by length and cut into groups of ``together``; the groups are shuffled, and a smaller group comes
    last. Lengths count as up to 2 % longer at random, so that a row is not in the same company in each epoch. The order
    depends only on ``seed`` and the epoch.

    >>> first, second, *_ = BalancedOrder([10, 90, 11, 91], together=2, seed=0)
    >>> {first, second} in ({0, 2}, {1, 3})
    True
    """

    def __init__(self, lengths: Sequence[int], *, together: int, seed: int) -> None:
        self._lengths, self._together, self._seed = lengths, together, seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; transformers' ``Trainer`` calls this."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield the index of each row once."""
        drawn = random.Random(f"{self._seed}:{self._epoch}")
        order = sorted(range(len(self)), key=lambda row: -self._lengths[row] * drawn.uniform(1, 1.02))
        rest = len(order) % self._together
        cut = self._together * drawn.randrange(len(order) // self._together + 1)
        last = order[cut : cut + rest]
        del order[cut : cut + rest]
        groups = [order[start : start + self._together] for start in range(0, len(order), self._together)]
        drawn.shuffle(groups)
        for group in (*groups, last):
            yield from group


_EMPTY = Flattened(
    ids=torch.zeros(1, dtype=torch.long),
    positions=torch.zeros(1, dtype=torch.long),
    ends=torch.ones(1, dtype=torch.long),
    parents=torch.zeros(0, dtype=torch.long),
    targets=torch.zeros(0, dtype=torch.long),
    weights=torch.zeros(0),
)
"""A row without edges, which contributes nothing to the loss."""


def _padded(rows: Sequence[Tensor], length: int, value: int = 0) -> Tensor:
    return torch.stack([torch.nn.functional.pad(row, (0, length - len(row)), value=value) for row in rows])
