"""Which token sequences have been computed: a radix trie over token ids, as a server's prefix cache is.

Invariants:

- A node stands for one token sequence, from the root to its own end, for ever: nothing is evicted, and a split
  shortens only the edge above a node. An edge is a range of a tuple that it shares, so a split costs nothing.
- A context is remembered with its node once all of its tokens are in the trie. Contexts are immutable and children
  hold their parents, so a request costs only the tokens added since the nearest remembered ancestor.
"""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from sprint_agents.context import Context


class Node:
    """The end of the edge ``ids[start:stop]`` from its parent; ``children`` by first token."""

    __slots__ = ("children", "ids", "start", "stop")

    def __init__(self, ids: tuple[int, ...], start: int, stop: int) -> None:
        self.ids = ids
        self.start = start
        self.stop = stop
        self.children: dict[int, Node] = {}

    def follow(self, ids: tuple[int, ...]) -> tuple["Node", int]:
        """Go along ``ids`` as far as the trie does; return the node there and how many tokens that were."""
        node, position = self, 0
        while position < len(ids) and (child := node.children.get(ids[position])) is not None:
            shared = _shared(child.ids, child.start, child.stop, ids, position)
            position += shared
            if shared < child.stop - child.start:
                return node._split(child, shared), position
            node = child
        return node, position

    def grow(self, ids: tuple[int, ...], start: int) -> "Node":
        """Add ``ids[start:]``, whose first token no child starts with; return its end."""
        if start == len(ids):
            return self
        child = self.children[ids[start]] = Node(ids, start, len(ids))
        return child

    def extend(self, ids: tuple[int, ...]) -> "Node":
        """Add ``ids`` after this node and return their end."""
        node, shared = self.follow(ids)
        return node.grow(ids, shared)

    def _split(self, child: "Node", length: int) -> "Node":
        """Put a node on the edge to ``child``, ``length`` tokens from here."""
        middle = Node(child.ids, child.start, child.start + length)
        self.children[child.ids[child.start]] = middle
        child.start += length
        middle.children[child.ids[child.start]] = child
        return middle


class TokenTrie:
    """A set of token sequences, closed under prefixes."""

    __slots__ = ("_check", "_places", "_root")

    def __init__(self, check: Callable[[Sequence[int]], None]) -> None:
        """``check`` raises on ids outside the vocabulary; the ids of a context are checked until it is remembered."""
        self._check = check
        self._root = Node((), 0, 0)
        self._places: WeakKeyDictionary[Context, Node] = WeakKeyDictionary()

    def find(self, context: Context) -> int:
        """How many of the context's first tokens are in the trie."""
        return self._follow(context)[2]

    def insert(self, context: Context) -> tuple[Node, int]:
        """Add the context's tokens; return its node and how many of the first tokens were there before."""
        path, node, found, start = self._follow(context)
        while path:
            step = path.pop()
            node = self._places[step] = node.grow(step.own_ids, start)
            start = 0
        return node, found

    def _follow(self, context: Context) -> tuple[list[Context], Node, int, int]:
        """Go along ``context`` as far as the trie does.

        Returns:
            The contexts not wholly in it, nearest last; the node where it ends; how many tokens that are; and how
            many of them are in the nearest context.

        """
        path: list[Context] = []
        ancestor: Context | None = context
        node: Node | None = None
        while ancestor is not None and (node := self._places.get(ancestor)) is None:
            self._check(ancestor.own_ids)
            path.append(ancestor)
            ancestor = ancestor.parent
        node = node or self._root
        found = 0 if ancestor is None else len(ancestor)
        while path:
            step = path[-1]
            node, shared = node.follow(step.own_ids)
            found += shared
            if shared < len(step.own_ids):
                return path, node, found, shared
            self._places[step] = node
            path.pop()
        return path, node, found, 0


def _shared(left: tuple[int, ...], start: int, stop: int, right: tuple[int, ...], position: int) -> int:
    """How many tokens ``left[start:stop]`` and ``right[position:]`` begin with in common."""
    length = min(stop - start, len(right) - position)
    if left[start : start + length] == right[position : position + length]:
        return length
    return next(count for count in range(length) if left[start + count] != right[position + count])
