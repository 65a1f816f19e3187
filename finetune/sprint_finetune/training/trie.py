"""All calls of a trajectory as one sequence: a trie of token ids, depth first (ThreadWeaver, arXiv 2512.07843).

A *path* is everything that one role reads and writes, starting with the question. Paths share their beginnings, so
together they form a trie, and each token of the trie is computed once::

    question plan … </prompt_1.1> … </prompt_1.2> … joined executions … answer       the planner's path
                          │               └ header execution_1.2                      an executor's
                          └ header execution_1.1

Invariants:

- A subtree is contiguous, so token ``i`` sees token ``j`` if and only if ``j <= i < ends[j]``: one number per token.
  This holds for several tries in one sequence too, so packing is concatenation.
- Positions are depths. Every token therefore sees the tokens of its path at the positions that they have in a run.
- The loss is a sum over *edges*. An edge is a token and a token that follows it on some path. Where paths branch,
  several tokens follow one token, and all of them are predicted from the same logits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sprint_agents.errors import ConfigurationError

Shared = Literal["once", "calls"]
"""The weight of an edge that several calls learn: one, or the number of these calls, as in the sum of their losses."""


@dataclass(frozen=True, slots=True)
class TokenPath:
    """The token ids of one path and the weight of each token in training, both of shape (tokens,)."""

    ids: list[int]
    learned: list[float]


@dataclass(frozen=True, slots=True, eq=False)
class Flattened:
    """A flattened trie, or several in a row. The first three tensors have shape (tokens,), the others (edges,).

    Attributes:
        ids: token ids.
        positions: depth in the trie, from 0.
        ends: index after the subtree of a token: token ``i`` sees token ``j`` iff ``j <= i < ends[j]``.
        parents: index of the token whose logits predict the target.
        targets: id of the predicted token.
        weights: weight of the edge in the loss, above 0.
    """

    ids: Tensor
    positions: Tensor
    ends: Tensor
    parents: Tensor
    targets: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def depth(self) -> int:
        """Length of the longest path, in tokens."""
        return int(self.positions.max()) + 1

    @property
    def is_chain(self) -> bool:
        """Whether this is a single path, for which ordinary causal attention is equivalent."""
        return bool((self.ends == len(self)).all())


def flatten(paths: Iterable[TokenPath], *, shared: Shared = "once") -> Flattened:
    """Merge paths that share a beginning, and flatten the trie; O(tokens of all paths).

    An edge is learned if any path learns it; ``shared`` sets its weight. The first token of a path is never learned,
    because no token predicts it. The first path stays contiguous as far as possible, which suits sparse attention.

    >>> trie = flatten([TokenPath([7, 8, 9], [0, 1, 1]), TokenPath([7, 8, 5], [0, 0, 1])])
    >>> trie.ids.tolist(), trie.positions.tolist(), trie.ends.tolist()
    ([7, 8, 9, 5], [0, 1, 2, 2], [4, 4, 3, 4])
    >>> list(zip(trie.parents.tolist(), trie.targets.tolist()))  # 8 is followed by 9 and by 5
    [(0, 8), (1, 9), (1, 5)]

    Raises:
        ConfigurationError: no path has a token.
    """
    root = _Segment(torch.empty(0, dtype=torch.long), torch.empty(0))
    for path in paths:
        _insert(root, torch.tensor(path.ids), torch.tensor(path.learned, dtype=torch.float))
    if not root.children:
        raise ConfigurationError("there are no tokens to flatten: pass at least one path that is not empty")
    return _flatten(root, shared)


def pack(tries: Sequence[Flattened]) -> Flattened:
    """Put several tries into one sequence. No token sees a token of another trie.

    >>> one = flatten([TokenPath([7, 8], [0, 1])])
    >>> both = pack([one, one])
    >>> both.positions.tolist(), both.ends.tolist(), both.parents.tolist()
    ([0, 1, 0, 1], [2, 2, 4, 4], [0, 2])
    """
    starts = [0]
    for trie in tries:
        starts.append(starts[-1] + len(trie))
    placed = list(zip(tries, starts, strict=False))
    return Flattened(
        ids=torch.cat([trie.ids for trie in tries]),
        positions=torch.cat([trie.positions for trie in tries]),
        ends=torch.cat([trie.ends + start for trie, start in placed]),
        parents=torch.cat([trie.parents + start for trie, start in placed]),
        targets=torch.cat([trie.targets for trie in tries]),
        weights=torch.cat([trie.weights for trie in tries]),
    )


@dataclass(slots=True)
class _Segment:
    """Consecutive tokens without a branch, and how many paths learn each. Children are keyed by their first token."""

    ids: Tensor
    learned: Tensor
    children: "dict[int, _Segment]" = field(default_factory=dict[int, "_Segment"])

    def split(self, length: int) -> None:
        """Keep the first ``length`` tokens. The rest becomes the only child."""
        rest = _Segment(self.ids[length:], self.learned[length:], self.children)
        self.ids, self.learned = self.ids[:length], self.learned[:length]
        self.children = {int(rest.ids[0]): rest}


def _insert(root: _Segment, ids: Tensor, learned: Tensor) -> None:
    segment = root
    while len(ids):
        child = segment.children.get(int(ids[0]))
        if child is None:
            segment.children[int(ids[0])] = _Segment(ids, learned)
            return
        common = _common(child.ids, ids)
        if common < len(child.ids):
            child.split(common)
        child.learned += learned[:common]
        segment, ids, learned = child, ids[common:], learned[common:]


def _common(a: Tensor, b: Tensor) -> int:
    """Count the tokens of the common prefix."""
    length = min(len(a), len(b))
    differ = (a[:length] != b[:length]).nonzero()
    return int(differ[0]) if len(differ) else length


def _flatten(root: _Segment, shared: Shared) -> Flattened:
    """Lay out the segments depth first and compute the tensors of ``Flattened``.

    For the paths ``a b c`` and ``a b d e``, the segments are ``a b``, ``c`` and ``d e``::

        segment   above   start   depth   length   size of subtree
        a b        -1       0       0       2            5
        c           0       2       2       1            1
        d e         0       3       2       2            2

        ids        a  b  c  d  e
        positions  0  1  2  2  3    depth of the segment + index in it
        ends       5  5  3  5  5    start of the segment + size of its subtree
        parents   -1  0  1  1  3    the previous token, or the last token of the segment above
    """
    segments: list[_Segment] = []
    above: list[int] = []  # the index of each segment's parent, which is smaller; -1 for the beginning of a path
    waiting = [(-1, child) for child in reversed(root.children.values())]
    while waiting:
        parent, segment = waiting.pop()
        above.append(parent)
        waiting += [(len(segments), child) for child in reversed(segment.children.values())]
        segments.append(segment)

    lengths = [len(segment.ids) for segment in segments]
    starts, depths = [0], [0]
    for index in range(1, len(segments)):
        starts.append(starts[-1] + lengths[index - 1])
        depths.append(depths[above[index]] + lengths[above[index]] if above[index] >= 0 else 0)
    sizes = lengths.copy()  # of the whole subtree; children come after their parent, so add them up from the end
    for index in range(len(segments) - 1, 0, -1):
        if above[index] >= 0:
            sizes[above[index]] += sizes[index]

    ids = torch.cat([segment.ids for segment in segments])
    parents = torch.arange(-1, len(ids) - 1)
    parents[starts] = torch.tensor([starts[index] + lengths[index] - 1 if index >= 0 else -1 for index in above])
    learned = torch.cat([segment.learned for segment in segments])
    edges = (learned > 0) & (parents >= 0)
    return Flattened(
        ids=ids,
        positions=torch.cat([torch.arange(depth, depth + n) for depth, n in zip(depths, lengths, strict=True)]),
        ends=torch.tensor([a + n for a, n in zip(starts, sizes, strict=True)]).repeat_interleave(torch.tensor(lengths)),
        parents=parents[edges],
        targets=ids[edges],
        weights=learned[edges] if shared == "calls" else torch.ones(int(edges.sum())),
    )
