"""A flattened trie has every path once, tells what each token sees, and predicts what the paths learn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.errors import ConfigurationError
from sprint_finetune.training.trie import TokenPath, flatten, pack


@st.composite
def samples(draw):
    """A path over few tokens, so that several of them share their beginnings."""
    tokens = draw(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=9))
    return TokenPath([token for token, _ in tokens], [learned for _, learned in tokens])


forests = st.lists(samples(), min_size=1, max_size=6)


def prefixes(trie):
    """The text of each token and of the tokens that it sees."""
    spelt = []
    for index in range(len(trie)):
        seen = [other for other in range(index + 1) if index < trie.ends[other]]
        spelt.append(tuple(trie.ids[seen].tolist()))
    return spelt


@given(forests)
def test_every_beginning_of_a_path_is_one_token(paths):
    trie = flatten(paths)
    expected = {tuple(path.ids[:length]) for path in paths for length in range(1, len(path.ids) + 1)}
    spelt = prefixes(trie)
    assert len(spelt) == len(expected)
    assert set(spelt) == expected
    assert trie.positions.tolist() == [len(prefix) - 1 for prefix in spelt]
    assert trie.depth == max(len(path.ids) for path in paths)


@given(forests)
def test_edges_are_what_the_paths_learn(paths):
    learned = [
        tuple(path.ids[: length + 1]) for path in paths for length in range(1, len(path.ids)) if path.learned[length]
    ]
    for shared in ("once", "calls"):
        trie = flatten(paths, shared=shared)
        spelt = prefixes(trie)
        edges = [
            (*spelt[parent], target)
            for parent, target in zip(trie.parents.tolist(), trie.targets.tolist(), strict=True)
        ]
        assert sorted(edges) == sorted(set(learned))
        weights = [learned.count(edge) if shared == "calls" else 1 for edge in edges]
        assert trie.weights.tolist() == weights


@given(forests)
def test_the_first_path_stays_in_one_piece_up_to_where_later_ones_leave_it(paths):
    trie = flatten(paths)
    assert trie.ids[: len(paths[0].ids)].tolist() == paths[0].ids


@given(st.lists(forests, min_size=1, max_size=4))
def test_packed_tries_do_not_see_each_other(several):
    tries = [flatten(paths) for paths in several]
    packed = pack(tries)
    assert prefixes(packed) == [prefix for trie in tries for prefix in prefixes(trie)]
    assert packed.positions.tolist() == [position for trie in tries for position in trie.positions.tolist()]
    start = 0
    edges = iter(zip(packed.parents.tolist(), packed.targets.tolist(), packed.weights.tolist(), strict=True))
    for trie in tries:
        for edge in zip(trie.parents.tolist(), trie.targets.tolist(), trie.weights.tolist(), strict=True):
            parent, *rest = next(edges)
            assert (parent - start, *rest) == edge
        start += len(trie)
    assert next(edges, None) is None


def test_a_chain_is_known_as_one():
    assert flatten([TokenPath([1, 2, 3], [0, 1, 1])]).is_chain
    assert not flatten([TokenPath([1, 2], [0, 1]), TokenPath([1, 3], [0, 1])]).is_chain
    chain = flatten([TokenPath([1, 2], [0, 1])])
    assert not pack([chain, chain]).is_chain


def test_building_takes_time_in_the_tokens_alone():
    """Paths of 20,000 tokens that differ only at the end: quadratic time or memory would be noticeable."""
    trunk = torch.randint(0, 1000, (20_000,)).tolist()
    paths = [TokenPath([*trunk, 1000 + index], [0] * 20_000 + [1]) for index in range(50)]
    trie = flatten(paths)
    assert len(trie) == 20_050
    assert trie.parents.tolist() == [19_999] * 50


def test_nothing_cannot_be_flattened():
    for paths in ([], [TokenPath([], [])]):
        with pytest.raises(ConfigurationError, match="at least one path"):
            flatten(paths)
