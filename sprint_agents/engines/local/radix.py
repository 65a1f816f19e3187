"""A radix tree over token ids: which prefix of a context is computed already, and where its keys are stored.

Invariants:

- A path from the root spells a sequence of token ids, and no two children of a node begin with the same id. So a
  sequence has exactly one place in the tree. A match is exact to the token: a node is split where a match ends in it.
- A node refers to consecutive tokens of one segment. The nodes of a segment lie on one path, in order, so removing a
  leaf shortens its segment from the end.
- ``pins`` counts the users of a node and of every node below it. Only leaves without users are evicted, the least
  recently used first.

The tree knows nothing of tensors: it needs only ``Segment.truncate``.
"""

import heapq
from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar


class Segment(Protocol):
    """Stores the keys and values of consecutive tokens."""

    def truncate(self, stop: int) -> None:
        """Free the tokens from offset ``stop`` to the end."""
        ...


SegmentT = TypeVar("SegmentT", bound=Segment)


class SegmentRange(NamedTuple, Generic[SegmentT]):
    """The tokens of ``segment`` from offset ``start`` to ``stop``."""

    segment: SegmentT
    start: int
    stop: int


class RadixNode(Generic[SegmentT]):
    """A part of a sequence: ``tokens``, stored in ``segment`` from offset ``start``. The root has neither."""

    __slots__ = ("children", "parent", "pins", "segment", "start", "tokens", "used")

    def __init__(
        self, parent: "RadixNode[SegmentT] | None", tokens: list[int], segment: SegmentT | None, start: int
    ) -> None:
        self.parent = parent
        self.tokens = tokens
        self.segment = segment
        self.start = start
        self.children: dict[int, RadixNode[SegmentT]] = {}
        self.pins = 0
        self.used = 0

    @property
    def stop(self) -> int:
        """The offset in the segment after the last token."""
        return self.start + len(self.tokens)

    def path(self) -> "Iterator[RadixNode[SegmentT]]":
        """Yield the nodes from this one up to the root, which is left out."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent


class RadixTree(Generic[SegmentT]):
    """The stored sequences; ``tokens`` in all, of which ``pinned_tokens`` are in use."""

    def __init__(self) -> None:
        self.root: RadixNode[SegmentT] = RadixNode(None, [], None, 0)
        self.tokens = 0
        self.pinned_tokens = 0
        self._clock = 0

    def match(self, ids: list[int]) -> tuple[RadixNode[SegmentT], int]:
        """Find the longest stored prefix of ``ids``: the node where it ends, and its length."""
        node, length = self._descend(self.root, ids)
        self._touch(node)
        return node, length

    def insert(
        self, node: RadixNode[SegmentT], tokens: list[int], segment: SegmentT, start: int
    ) -> RadixNode[SegmentT]:
        """Append ``tokens`` to the sequence that ends at ``node``, which the caller has pinned.

        The tokens are stored in ``segment`` from offset ``start``. Where another sequence has inserted the same tokens
        already, the tree keeps its first copy.

        Returns:
            The node where the sequence ends now. The caller's pin has moved to it.

        """
        end, known = self._descend(node, tokens)
        new = tokens[known:]
        start += known
        # A decoding sequence grows by one token a step: its node grows with it, as long as nothing else depends on it.
        if (
            new
            and end is node
            and node.segment is segment
            and node.stop == start
            and not node.children
            and node.pins == 1
        ):
            node.tokens += new
            self.pinned_tokens += len(new)
        elif new:
            child = RadixNode(end, new, segment, start)
            end.children[new[0]] = child
            end = child
        self.tokens += len(new)
        if end is not node:
            self.pin(end)
            self.unpin(node)
        self._touch(end)
        return end

    def pin(self, node: RadixNode[SegmentT]) -> None:
        """Protect ``node`` and every node above it from eviction until ``unpin``."""
        for above in node.path():
            if above.pins == 0:
                self.pinned_tokens += len(above.tokens)
            above.pins += 1

    def unpin(self, node: RadixNode[SegmentT]) -> None:
        """Undo one ``pin`` of ``node``, and count it as used until now."""
        for above in node.path():
            above.pins -= 1
            if above.pins == 0:
                self.pinned_tokens -= len(above.tokens)
        self._touch(node)

    def ranges(self, node: RadixNode[SegmentT]) -> list[SegmentRange[SegmentT]]:
        """List where the sequence of ``node`` is stored, in order; adjacent tokens of a segment are one range."""
        ranges: list[SegmentRange[SegmentT]] = []
        for part in reversed([*node.path()]):
            assert part.segment is not None
            if ranges and ranges[-1].segment is part.segment and ranges[-1].stop == part.start:
                ranges[-1] = SegmentRange(part.segment, ranges[-1].start, part.stop)
            else:
                ranges.append(SegmentRange(part.segment, part.start, part.stop))
        return ranges

    def evict(self, tokens: int) -> int:
        """Remove unused leaves, least recently used first, until ``tokens`` are freed; return the number freed."""
        leaves = [(node.used, id(node), node) for node in self.nodes() if not node.children and not node.pins]
        heapq.heapify(leaves)
        freed = 0
        while leaves and freed < tokens:
            *_, node = heapq.heappop(leaves)
            freed += len(node.tokens)
            parent = self._remove(node)
            if parent is not self.root and not parent.children and not parent.pins:
                heapq.heappush(leaves, (parent.used, id(parent), parent))
        self.tokens -= freed
        return freed

    def nodes(self) -> Iterator[RadixNode[SegmentT]]:
        """Yield all nodes except the root."""
        stack = [*self.root.children.values()]
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            yield node

    def _descend(self, node: RadixNode[SegmentT], ids: list[int]) -> tuple[RadixNode[SegmentT], int]:
        """Follow ``ids`` from ``node`` as far as the tree has them; split the node in which they end."""
        length = 0
        while length < len(ids) and (child := node.children.get(ids[length])):
            common = common_prefix(child.tokens, ids[length : length + len(child.tokens)])
            node = child if common == len(child.tokens) else self._split(child, common)
            length += common
            if node is not child:
                break
        return node, length

    def _split(self, node: RadixNode[SegmentT], length: int) -> RadixNode[SegmentT]:
        """Move the first ``length`` tokens of ``node`` into a new node above it; return the new node.

        Example: ``[A B C D]`` is stored at offsets 5 to 9 of a segment, and a context ``A B X`` arrives::

            before   root ── [A B C D] 5-9
            after    root ── [A B] 5-7 ── [C D] 7-9
                                       └─ the caller may add [X] here

        The new node is the upper one, because sequences that end at ``node`` hold a reference to it and still end
        after D. Each of them also uses ``A B``, so the upper node starts with the same number of pins.
        """
        parent = node.parent
        assert parent is not None
        upper = RadixNode(parent, node.tokens[:length], node.segment, node.start)
        upper.pins, upper.used = node.pins, node.used
        parent.children[upper.tokens[0]] = upper
        node.parent, node.tokens, node.start = upper, node.tokens[length:], node.start + length
        upper.children[node.tokens[0]] = node
        return upper

    def _remove(self, node: RadixNode[SegmentT]) -> RadixNode[SegmentT]:
        """Remove a leaf and shorten its segment; return the parent."""
        parent, segment = node.parent, node.segment
        assert parent is not None
        assert segment is not None
        del parent.children[node.tokens[0]]
        segment.truncate(node.start)
        return parent

    def _touch(self, node: RadixNode[SegmentT]) -> None:
        self._clock += 1
        for above in node.path():
            above.used = self._clock


def common_prefix(left: list[int], right: list[int]) -> int:
    """Count the equal leading elements, by bisection over slices: comparing slices is faster than a loop."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while high - low > 1:  # equal before low, different somewhere before high
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low
