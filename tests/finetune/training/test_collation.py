"""Rows and batches have every trie exactly once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sprint_finetune.training.collation import Collator, PackedRows, bins
from sprint_finetune.training.trie import TokenPath, flatten

lengths = st.lists(st.integers(1, 30), max_size=40)


def chain(first, length):
    """A path with ids that no other path has."""
    ids = [first, *range(1, length)]
    return flatten([TokenPath(ids, [0, *[1] * (len(ids) - 1)])])


@given(lengths)
def test_bins_hold_every_item_once_and_no_more_than_fits(items):
    found = bins(items, 30)
    assert sorted(index for members in found for index in members) == list(range(len(items)))
    assert all(0 < sum(items[index] for index in members) <= 30 for members in found)
    # No two bins would fit into one.
    sums = sorted(sum(items[index] for index in members) for members in found)
    assert len(sums) < 2 or sums[0] + sums[1] > 30


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="of length 31 does not fit a bin of 30"):
        bins([3, 31], 30)


@given(lengths, st.sampled_from([None, 30]), st.integers(1, 5))
def test_rows_hold_every_trie_once_and_are_equally_many_for_all(items, capacity, processes):
    tries = [chain(100 + index, length) for index, length in enumerate(items)]
    rows = PackedRows(tries, capacity=capacity, multiple=processes)
    assert len(rows) % processes == 0
    assert len(rows) - len(rows.members) < processes
    every = [rows[index] for index in range(len(rows))]
    firsts = [int(token) for row in every for token in row.ids if token >= 100]
    assert sorted(firsts) == [100 + index for index in range(len(items))]
    assert sum(len(row.targets) for row in every) == sum(len(trie.targets) for trie in tries)
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_padding_sees_itself_and_teaches_nothing():
    fork = flatten([TokenPath([1, 2], [0, 1]), TokenPath([1, 3], [0, 1])])
    batch = Collator(padding=9, multiple=4)([fork, chain(7, 2)])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 9], [7, 1, 9, 9]]
    assert batch["positions"].tolist() == [[0, 1, 1, 0], [0, 1, 0, 0]]
    assert batch["ends"].tolist() == [[3, 2, 3, 4], [2, 2, 3, 4]]
    assert batch["parents"].tolist() == [[0, 0], [0, 0]]
    assert batch["weights"].tolist() == [[1, 1], [1, 0]]


def test_chains_alone_need_no_mask():
    batch = Collator()([chain(7, 2), chain(8, 3)])
    assert batch.keys() == {"input_ids", "parents", "targets", "weights"}


def test_an_empty_row_makes_a_batch():
    rows = PackedRows([chain(7, 3)], multiple=2)
    batch = Collator()([rows[1]])
    assert batch["input_ids"].shape == (1, 1)
    assert torch.equal(batch["weights"], torch.zeros(1, 0))
