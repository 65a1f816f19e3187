"""Rows and batches have every trie exactly once."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sprint_finetune.training.collation import BalancedOrder, Collator, PackedRows, balanced_bins, bins
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


@given(lengths, st.integers(1, 5))
def test_balanced_bins_are_as_few_and_no_less_even(items, multiple):
    fewest, found = bins(items, 30), balanced_bins(items, 30, multiple=multiple)
    assert sorted(index for members in found for index in members) == list(range(len(items)))
    assert all(0 < sum(items[index] for index in members) <= 30 for members in found)
    assert len(found) <= -(-len(fewest) // multiple) * multiple
    if found != fewest:  # no bin is fuller than the emptiest by more than one item
        sums = [sum(items[index] for index in members) for members in found]
        assert max(sums) - min(sums) <= max(items)


@given(lengths, st.integers(1, 5), st.integers(0, 3))
def test_an_order_has_every_row_once_and_similar_rows_together(items, together, epoch):
    order = BalancedOrder(items, together=together, seed=1)
    order.set_epoch(epoch)
    rows = list(order)
    assert rows == list(order)  # a resumed run takes the same order
    assert sorted(rows) == list(range(len(items)))
    ordered = sorted(items, reverse=True)
    if len(items) % together == 0:
        groups = sorted(
            (sorted((items[row] for row in rows[start : start + together]), reverse=True))
            for start in range(0, len(rows), together)
        )
        wanted = sorted(ordered[start : start + together] for start in range(0, len(rows), together))
        assert groups == wanted  # lengths below 50 differ by more than 2 % or not at all


def test_epochs_have_different_orders():
    order = BalancedOrder([10] * 50, together=5, seed=1)
    first = list(order)
    order.set_epoch(1)
    assert list(order) != first


def lost(rows, order, *, processes, each):
    """The share of computed tokens that are padding, or that wait for a longer batch of another process."""
    read = spent = 0
    for start in range(0, len(order), processes * each):
        group = [rows.lengths[row] for row in order[start : start + processes * each]]
        read += sum(group)
        spent += max(group) * len(group)
    return 1 - read / spent


def test_little_is_lost_to_padding_and_waiting():
    """The length distribution of docs/training.md: 1,700 tries, median 4,000 tokens, up to 16,384."""
    drawn = random.Random(1)
    items = [min(16_384, max(300, int(drawn.lognormvariate(8.3, 0.6)))) for _ in range(1_700)]
    tries = [range(length) for length in items]  # only their lengths matter
    for capacity, most in ((None, 0.04), (32_768, 0.02)):
        rows = PackedRows(tries, capacity=capacity, multiple=16)
        balanced = list(BalancedOrder(rows.lengths, together=16, seed=0))
        assert lost(rows, balanced, processes=8, each=2) < most
    one_by_one = PackedRows(tries, multiple=16)
    shuffled = drawn.sample(range(len(one_by_one)), len(one_by_one))
    assert lost(one_by_one, shuffled, processes=8, each=2) > 0.5


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
