"""One radix tree over token ids: which prefix of a context is computed already, and where.

Invariants:

- A path from the root spells a sequence of token ids, and no two children of a node begin with the same id: a
  sequence has one place. Matching is exact to the token; a node is split where a match ends inside it.
- A node refers to consecutive tokens of one span. The nodes of a span lie on one path, in order, so forgetting
  a leaf shortens its span from the end.
- ``pins`` counts the users of a node and of all below it. Only leaves without a user are forgotten, the least
  recently used first.
"""

import heapq
from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar


class Stored(Protocol):
    """What a node refers to: the keys and values of consecutive tokens."""

    def truncate(self, stop: int) -> None:
        """Forget the tokens from offset ``stop`` on."""
        ...


SpanT = TypeVar("SpanT", bound=Stored)


class Run(NamedTuple, Generic[SpanT]):
    """The tokens of ``span`` from offset ``start`` to ``stop``."""

    span: SpanT
    start: int
    stop: int


class Node(Generic[SpanT]):
    """A piece of a sequence: ``tokens``, stored in ``span`` from offset ``start`` on; the root has neither."""

    __slots__ = ("children", "parent", "pins", "span", "start", "tokens", "used")

    def __init__(self, parent: "Node[SpanT] | None", tokens: list[int], span: SpanT | None, start: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.span = span
        self.start = start
        self.children: dict[int, Node[SpanT]] = {}
        self.pins = 0
        self.used = 0

    @property
    def stop(self) -> int:
        """The offset in the span after the last token."""
        return self.start + len(self.tokens)

    def path(self) -> "Iterator[Node[SpanT]]":
        """Yield the nodes from here up to and without the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent


class RadixTree(Generic[SpanT]):
    """The sequences that are stored; ``tokens`` in all, ``pinned_tokens`` of them in use."""

    def __init__(self) -> None:
        self.root: Node[SpanT] = Node(None, [], None, 0)
        self.tokens = 0
        self.pinned_tokens = 0
        self._clock = 0

    def match(self, ids: list[int]) -> tuple[Node[SpanT], int]:
        """Find the longest stored prefix of ``ids``: the node where it ends, and its length."""
        node, length = self._descend(self.root, ids)
        self._touch(node)
        return node, length

    def insert(self, node: Node[SpanT], tokens: list[int], span: SpanT, start: int) -> Node[SpanT]:
        """Continue the sequence of ``node``, the caller's pinned place, by ``tokens``; return where it ends now.

        The tokens are stored in ``span`` from offset ``start`` on; of those that the tree has already, the tree
        goes on using what it has. The caller's pin moves along.
        """
        end, known = self._descend(node, tokens)
        new = tokens[known:]
        start += known
        if new and end is node and node.span is span and node.stop == start and not node.children and node.pins == 1:
            node.tokens += new
            self.pinned_tokens += len(new)
        elif new:
            child = Node(end, new, span, start)
            end.children[new[0]] = child
            end = child
        self.tokens += len(new)
        if end is not node:
            self.pin(end)
            self.unpin(node)
        self._touch(end)
        return end

    def pin(self, node: Node[SpanT]) -> None:
        """Keep ``node`` and all above it until ``unpin``."""
        for piece in node.path():
            if piece.pins == 0:
                self.pinned_tokens += len(piece.tokens)
            piece.pins += 1

    def unpin(self, node: Node[SpanT]) -> None:
        """Undo one ``pin`` of ``node``, and note that it was in use until now."""
        for piece in node.path():
            piece.pins -= 1
            if piece.pins == 0:
                self.pinned_tokens -= len(piece.tokens)
        self._touch(node)

    def runs(self, node: Node[SpanT]) -> list[Run[SpanT]]:
        """Where the sequence of ``node`` is stored, in order; neighbours in one span are one run."""
        runs: list[Run[SpanT]] = []
        for piece in reversed([*node.path()]):
            assert piece.span is not None
            if runs and runs[-1].span is piece.span and runs[-1].stop == piece.start:
                runs[-1] = Run(piece.span, runs[-1].start, piece.stop)
            else:
                runs.append(Run(piece.span, piece.start, piece.stop))
        return runs

    def evict(self, tokens: int) -> int:
        """Forget unused leaves, least recently used first, until ``tokens`` are forgotten; return how many were."""
        leaves = [(node.used, id(node), node) for node in self.nodes() if not node.children and not node.pins]
        heapq.heapify(leaves)
        forgotten = 0
        while leaves and forgotten < tokens:
            *_, node = heapq.heappop(leaves)
            forgotten += len(node.tokens)
            parent = self._forget(node)
            if parent is not self.root and not parent.children and not parent.pins:
                heapq.heappush(leaves, (parent.used, id(parent), parent))
        self.tokens -= forgotten
        return forgotten

    def nodes(self) -> Iterator[Node[SpanT]]:
        """All nodes but the root."""
        stack = [*self.root.children.values()]
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            yield node

    def _descend(self, node: Node[SpanT], ids: list[int]) -> tuple[Node[SpanT], int]:
        """Follow ``ids`` from ``node`` as far as they are stored, and split a node there."""
        length = 0
        while length < len(ids) and (child := node.children.get(ids[length])):
            common = common_prefix(child.tokens, ids[length : length + len(child.tokens)])
            node = child if common == len(child.tokens) else self._split(child, common)
            length += common
            if node is not child:
                break
        return node, length

    def _split(self, node: Node[SpanT], length: int) -> Node[SpanT]:
        """Put the first ``length`` tokens of ``node`` into a node above it; pins stay with the lower one's users."""
        parent = node.parent
        assert parent is not None
        upper = Node(parent, node.tokens[:length], node.span, node.start)
        upper.pins, upper.used = node.pins, node.used
        parent.children[upper.tokens[0]] = upper
        node.parent, node.tokens, node.start = upper, node.tokens[length:], node.start + length
        upper.children[node.tokens[0]] = node
        return upper

    def _forget(self, node: Node[SpanT]) -> Node[SpanT]:
        """Remove a leaf and shorten its span; return the parent."""
        parent, span = node.parent, node.span
        assert parent is not None
        assert span is not None
        del parent.children[node.tokens[0]]
        span.truncate(node.start)
        return parent

    def _touch(self, node: Node[SpanT]) -> None:
        self._clock += 1
        for piece in node.path():
            piece.used = self._clock


def common_prefix(left: list[int], right: list[int]) -> int:
    """Count the leading elements that are equal, by comparing slices."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while high - low > 1:  # equal before low, a difference before high
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low
