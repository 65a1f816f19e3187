"""A radix trie over token ids that records which sequences have been computed, as a server's prefix cache does.

Invariants:

- A node always represents the same token sequence, from the root to the node. Nothing is evicted, and a split shortens
  only the edge above a node. An edge is a range of a shared tuple, so a split copies nothing.
- Once all tokens of a context are in the trie, the context is remembered with its node. Contexts are immutable and hold
  their parents, so a request costs only the tokens since its nearest remembered ancestor. The log of the requests
  keeps them alive in any case.
"""

from collections.abc import Callable

from sprint_agents.context import Context


class TrieNode:
    """The end of the edge ``ids[start:stop]`` from its parent, with its ``children`` by first token."""

    __slots__ = ("children", "ids", "start", "stop")

    def __init__(self, ids: tuple[int, ...], start: int, stop: int) -> None:
        self.ids = ids
        self.start = start
        self.stop = stop
        self.children: dict[int, TrieNode] = {}

    def follow(self, ids: tuple[int, ...]) -> tuple["TrieNode", int]:
        """Follow ``ids`` as far as the trie has them; return the node there and the number of tokens."""
        node, position, length = self, 0, len(ids)
        while position < length and (child := node.children.get(ids[position])) is not None:
            end = position + child.stop - child.start
            if child.ids[child.start : child.stop] != ids[position:end]:
                shared = _shared(child.ids, child.start, ids, position)
                return node._split(child, shared), position + shared
            node, position = child, end
        return node, position

    def grow(self, ids: tuple[int, ...], start: int) -> "TrieNode":
        """Add ``ids[start:]``, with a first token that begins no child; return the node at the end."""
        if start == len(ids):
            return self
        child = self.children[ids[start]] = TrieNode(ids, start, len(ids))
        return child

    def extend(self, ids: tuple[int, ...]) -> "TrieNode":
        """Add ``ids`` after this node; return the node at the end."""
        node, shared = self.follow(ids)
        return node.grow(ids, shared)

    def _split(self, child: "TrieNode", length: int) -> "TrieNode":
        """Put a node on the edge to ``child``, ``length`` tokens from here; return the new node."""
        middle = TrieNode(child.ids, child.start, child.start + length)
        self.children[child.ids[child.start]] = middle
        child.start += length
        middle.children[child.ids[child.start]] = child
        return middle


class TokenTrie:
    """A set of token sequences that contains all their prefixes."""

    __slots__ = ("_check", "_places", "_root")

    def __init__(self, check: Callable[[Context], object]) -> None:
        """Use ``check`` to raise on ids outside the vocabulary, for each context that is not in the trie."""
        self._check = check
        self._root = TrieNode((), 0, 0)
        self._places: dict[Context, TrieNode] = {}

    def find(self, context: Context) -> int:
        """Count the leading tokens of the context that are in the trie."""
        return self._follow(context)[2]

    def insert(self, context: Context) -> tuple[TrieNode, int]:
        """Add the context's tokens; return its node and the number of leading tokens that were there before."""
        path, node, found, start = self._follow(context)
        while path:
            step = path.pop()
            node = self._places[step] = node.grow(step.own_ids, start)
            start = 0
        return node, found

    def _follow(self, context: Context) -> tuple[list[Context], TrieNode, int, int]:
        """Follow ``context`` as far as the trie has it.

        Returns:
            The ancestors that are not wholly in the trie, the one nearest to the root last; the node where the trie
            ends; the number of tokens found; and how many of them belong to the last of these ancestors.

        """
        # Example: the trie has 1 2 3 9. The contexts A (1 2), its child B (3 4), and B's child C (5 6) are new. Then C
        # is followed through A to the first token of B: the result is [C, B], the node after 3, 3 tokens, 1 of B's.
        path: list[Context] = []
        ancestor: Context | None = context
        node: TrieNode | None = None
        while ancestor is not None and (node := self._places.get(ancestor)) is None:
            path.append(ancestor)
            ancestor = ancestor.parent
        node = node or self._root
        found = 0 if ancestor is None else len(ancestor)
        while path:
            step = path[-1]
            node, shared = node.follow(step.own_ids)
            found += shared
            if shared < len(step.own_ids):
                for missing in path:
                    self._check(missing)
                return path, node, found, shared
            self._places[step] = node
            path.pop()
        return path, node, found, 0


def _shared(left: tuple[int, ...], start: int, right: tuple[int, ...], position: int) -> int:
    """Count the tokens of ``right[position:]`` before the first that is not that of ``left[start:]``."""
    length = len(right) - position
    return next((count for count in range(length) if left[start + count] != right[position + count]), length)
