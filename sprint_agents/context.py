"""``Context``: an immutable, append-only sequence of token ids with its text.

Invariants:

- Token ids are the truth. A child's ids start with its parent's; ids are never re-encoded from text.
- A context is a node of a tree and holds only what it adds to its parent. So ``extend`` costs O(new tokens), a fork
  costs nothing (it is the same object), and no branch can change what its siblings see.
- ``flatten`` walks the tree once, without recursion; an engine calls it at most once per request.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from .markup import PromptText, compose


class Context:
    """Token ids with their text; a context shares the ids of its parent.

    >>> question = Context().extend([5, 6], "How many?")
    >>> left, right = question.extend([7], " one"), question.extend([8, 9], " two")
    >>> left.flatten(), right.text, len(question)
    ([5, 6, 7], 'How many? two', 2)
    """

    __slots__ = ("__weakref__", "_length", "own_ids", "own_text", "parent")

    parent: "Context | None"
    own_ids: tuple[int, ...]
    own_text: str

    def __init__(self) -> None:
        self.parent = None
        self.own_ids = ()
        self.own_text = ""
        self._length = 0

    def extend(self, ids: Iterable[int], text: str) -> "Context":
        """Return a child with ``ids`` appended, whose text is ``text``; the same context if both are empty.

        The text is a ``PromptText`` unless a model generated it.
        """
        own = tuple(ids)
        if not own and not text:
            return self
        child = Context.__new__(Context)
        child.parent = self
        child.own_ids = own
        child.own_text = text
        child._length = self._length + len(own)
        return child

    def __len__(self) -> int:
        """Return the number of tokens, from the root on."""
        return self._length

    def __bool__(self) -> bool:
        """Return True, for an empty context too."""
        return True

    def flatten(self) -> list[int]:
        """Return all token ids, from the root on; O(tokens)."""
        return self.ids_since(None)

    @property
    def text(self) -> str:
        """The text, from the root on; O(characters)."""
        return "".join(node.own_text for node in reversed(self._path(None)))

    def ids_since(self, ancestor: "Context | None") -> list[int]:
        """Return the ids added after ``ancestor``, which must be on the path to the root (None: all)."""
        ids: list[int] = []
        for node in reversed(self._path(ancestor)):
            ids.extend(node.own_ids)
        return ids

    def text_since(self, ancestor: "Context | None") -> str:
        """Return the text added after ``ancestor``, which must be on the path to the root (None: all)."""
        return "".join(node.own_text for node in reversed(self._path(ancestor)))

    def marked_text_since(self, ancestor: "Context | None", mark: Callable[[str], str]) -> PromptText:
        """Return the text added after ``ancestor`` with its markup; ``mark`` finds that of what a model wrote."""
        texts: list[str] = []
        for written, nodes in groupby(reversed(self._path(ancestor)), lambda node: _was_generated(node.own_text)):
            own = [node.own_text for node in nodes]
            texts += [mark("".join(own))] if written else own  # a completion that was cut is in several nodes
        return compose(texts)

    def _path(self, ancestor: "Context | None") -> Sequence["Context"]:
        """List the nodes from this one up to ``ancestor``, which is not included."""
        path: list[Context] = []
        node: Context | None = self
        while node is not None and node is not ancestor:
            path.append(node)
            node = node.parent
        if node is not ancestor:
            raise ValueError("that context is not an ancestor of this one: pass one that this one extends")
        return path


def _was_generated(text: str) -> bool:
    return not isinstance(text, PromptText)
