from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sprint_agents.engines.local.radix import RadixTree, SegmentRange, common_prefix

sequences = st.lists(st.integers(0, 2), max_size=8)


@dataclass(eq=False)
class Tape:
    """A segment that remembers the tokens it was given."""

    tokens: list[int] = field(default_factory=list[int])

    def truncate(self, stop: int) -> None:
        assert stop <= len(self.tokens)
        del self.tokens[stop:]


def spelled(ranges: list[SegmentRange[Tape]]) -> list[int]:
    return [token for found in ranges for token in found.segment.tokens[found.start : found.stop]]


def stored(tree: RadixTree[Tape], ids: list[int]) -> None:
    """Insert a whole sequence, in a segment that holds what the tree has not, as a request does."""
    node, length = tree.match(ids)
    tree.pin(node)
    node = tree.insert(node, ids[length:], Tape(ids[length:]), 0)
    tree.unpin(node)


@given(sequences, sequences)
def test_common_prefix_is_where_they_first_differ(left: list[int], right: list[int]) -> None:
    pairs = zip(left, right, strict=False)
    expected = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))
    assert common_prefix(left, right) == expected


def test_a_match_is_exact_to_the_token() -> None:
    tree: RadixTree[Tape] = RadixTree()
    stored(tree, [1, 2, 3, 4])
    node, length = tree.match([1, 2, 9])
    assert (length, spelled(tree.ranges(node))) == (2, [1, 2])
    assert tree.match([1, 2, 3, 4, 5])[1] == 4
    assert tree.match([2])[1] == 0
    assert tree.tokens == 4


def test_what_one_request_stored_is_one_run_however_often_it_was_split() -> None:
    tree: RadixTree[Tape] = RadixTree()
    stored(tree, [1, 2, 3, 4])
    for stop in (1, 3, 2):
        tree.match([1, 2, 3, 4][:stop])
    (found,) = tree.ranges(tree.match([1, 2, 3, 4])[0])
    assert (found.start, found.stop) == (0, 4)


def test_a_branch_that_says_what_is_known_goes_on_below_it() -> None:
    tree: RadixTree[Tape] = RadixTree()
    stored(tree, [1, 2, 3])
    mine = Tape([1, 2, 8])
    tree.pin(tree.root)
    end = tree.insert(tree.root, [1, 2, 8], mine, 0)
    assert [(found.segment is mine, found.start, found.stop) for found in tree.ranges(end)] == [
        (False, 0, 2),
        (True, 2, 3),
    ]
    assert tree.tokens == 4


def test_a_growing_branch_stays_one_node() -> None:
    tree: RadixTree[Tape] = RadixTree()
    segment, node = Tape([5, 6, 7]), tree.root
    tree.pin(node)
    for at in range(3):
        node = tree.insert(node, segment.tokens[at : at + 1], segment, at)
    assert [piece.tokens for piece in tree.nodes()] == [[5, 6, 7]]
    assert (tree.tokens, tree.pinned_tokens) == (3, 3)


def test_the_least_recently_used_leaf_goes_first() -> None:
    tree: RadixTree[Tape] = RadixTree()
    for ids in ([1, 1], [1, 2], [1, 3]):
        stored(tree, ids)
    tree.match([1, 1])
    assert tree.evict(1) == 1
    assert [tree.match([1, last])[1] for last in (1, 2, 3)] == [2, 1, 2]
    assert tree.evict(100) == 3
    assert (tree.tokens, [*tree.nodes()]) == (0, [])


def test_what_is_pinned_stays() -> None:
    tree: RadixTree[Tape] = RadixTree()
    stored(tree, [1, 2, 3, 4])
    node, _ = tree.match([1, 2])
    tree.pin(node)
    assert tree.evict(100) == 2
    assert tree.match([1, 2, 3])[1] == 2
    tree.unpin(node)
    assert tree.evict(100) == 2


def test_forgetting_a_leaf_shortens_its_span() -> None:
    tree: RadixTree[Tape] = RadixTree()
    segment = Tape([1, 2, 3, 4])
    tree.pin(tree.root)
    tree.unpin(tree.insert(tree.root, segment.tokens, segment, 0))
    tree.pin(tree.match([1, 2, 3])[0])
    tree.evict(1)
    assert segment.tokens == [1, 2, 3]


class Trees(RuleBasedStateMachine):
    """The tree against a set of prefixes that are stored."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: RadixTree[Tape] = RadixTree()
        self.known: set[tuple[int, ...]] = set()
        self.pins: list[tuple[int, ...]] = []

    def prefixes(self, ids: list[int] | tuple[int, ...]) -> set[tuple[int, ...]]:
        return {tuple(ids[:stop]) for stop in range(1, len(ids) + 1)}

    @rule(ids=sequences)
    def insert(self, ids: list[int]) -> None:
        stored(self.tree, ids)
        self.known |= self.prefixes(ids)

    @rule(ids=sequences)
    def match(self, ids: list[int]) -> None:
        node, length = self.tree.match(ids)
        assert length == max([len(known) for known in self.known & self.prefixes(ids)], default=0)
        assert spelled(self.tree.ranges(node)) == ids[:length]

    @rule(ids=sequences)
    def pin(self, ids: list[int]) -> None:
        node, length = self.tree.match(ids)
        self.tree.pin(node)
        self.pins.append(tuple(ids[:length]))

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        ids = self.pins.pop(data.draw(st.integers(0, len(self.pins) - 1)))
        node, length = self.tree.match([*ids])
        assert length == len(ids)
        self.tree.unpin(node)

    @rule(tokens=st.integers(1, 6))
    def evict(self, tokens: int) -> None:
        unused = self.tree.tokens - self.tree.pinned_tokens
        leaves = [node for node in self.tree.nodes() if not node.children and not node.pins]
        oldest = min(leaves, key=lambda node: node.used, default=None)
        forgotten = self.tree.evict(tokens)
        assert forgotten >= min(tokens, unused)
        assert oldest is None or oldest not in set(self.tree.nodes())
        left: set[tuple[int, ...]] = set()
        for ids in self.known:
            if self.tree.match([*ids])[1] == len(ids):
                left.add(ids)
        assert len(left) == len(self.known) - forgotten
        self.known = left

    @invariant()
    def it_is_a_radix_tree(self) -> None:
        nodes = [*self.tree.nodes()]
        assert all(node.tokens for node in nodes)
        assert all(first == child.tokens[0] for node in nodes for first, child in node.children.items())
        assert all(child.parent is node for node in nodes for child in node.children.values())
        assert self.tree.tokens == sum(len(node.tokens) for node in nodes) == len(self.known)

    @invariant()
    def pins_are_counted(self) -> None:
        pinned = {prefix for ids in self.pins for prefix in self.prefixes(ids)}
        assert pinned <= self.known
        assert self.tree.pinned_tokens == len(pinned)

    @invariant()
    def nothing_is_stored_that_is_not_in_the_tree(self) -> None:
        segments = {id(node.segment): node.segment for node in self.tree.nodes()}
        assert sum(len(segment.tokens) for segment in segments.values() if segment) == self.tree.tokens


TestTrees = Trees.TestCase


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_runs_spell_every_prefix(stop: int) -> None:
    tree: RadixTree[Tape] = RadixTree()
    stored(tree, [1, 2])
    stored(tree, [1, 2, 3])
    assert spelled(tree.ranges(tree.match([1, 2, 3][:stop])[0])) == [1, 2, 3][:stop]
