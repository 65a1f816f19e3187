"""All calls of a trajectory as one sequence: a trie of token ids, depth first (ThreadWeaver, arXiv 2512.07843).

A *path* is what one role reads and writes from the question on. Paths share their beginnings, so together they are a
trie, and each of its tokens is computed once::

    question plan … </prompt_1.1> … </prompt_1.2> … joined executions … answer       the planner's path
                          │               └ header execution_1.2                      an executor's
                          └ header execution_1.1

Invariants:

- A subtree lies together, so token ``i`` sees token ``j`` if and only if ``j <= i < ends[j]``: one number a token.
  That holds for several tries in one sequence too; packing is concatenation.
- Positions are depths. So every token sees the tokens of its path, at the positions that they have in a run.
- The loss is over *edges*, a token and one that follows it on some path: where a path branches, one token is followed
  by several, and each of them is predicted from the same logits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sprint_agents.errors import ConfigurationError

Shared = Literal["once", "calls"]
"""What an edge weighs that several calls learn: one, or the number of these calls, as in the sum of their losses."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids of one path, and how much each of them counts in training, both of shape (tokens,)."""

    ids: list[int]
    learned: list[float]


@dataclass(frozen=True, slots=True, eq=False)
class Flattened:
    """A flattened trie, or several in a row. The first three are of shape (tokens,), the others (edges,).

    Attributes:
        ids: token ids.
        positions: depth in the trie, from 0.
        ends: where the subtree of a token ends: token ``i`` sees token ``j`` iff ``j <= i < ends[j]``.
        parents: index of the token whose logits predict.
        targets: the id to be predicted there.
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
        """Length of the longest path in tokens."""
        return int(self.positions.max()) + 1

    @property
    def is_chain(self) -> bool:
        """Whether this is one path, so that ordinary causal attention sees the same."""
        return bool((self.ends == len(self)).all())


def flatten(paths: Iterable[Sample], *, shared: Shared = "once") -> Flattened:
    """Merge paths that begin alike and flatten what comes out; O(tokens of all paths).

    An edge is learned if any path learns it, and weighs what ``shared`` says. The first token of a path is never
    learned, for nothing predicts it. The first path stays together where it can, which is what sparse attention likes.

    >>> trie = flatten([Sample([7, 8, 9], [0, 1, 1]), Sample([7, 8, 5], [0, 0, 1])])
    >>> trie.ids.tolist(), trie.positions.tolist(), trie.ends.tolist()
    ([7, 8, 9, 5], [0, 1, 2, 2], [4, 4, 3, 4])
    >>> list(zip(trie.parents.tolist(), trie.targets.tolist()))  # 8 is followed by 9 and by 5
    [(0, 8), (1, 9), (1, 5)]

    Raises:
        ConfigurationError: there is no token in any path.
    """
    root = _Run(torch.empty(0, dtype=torch.long), torch.empty(0))
    for path in paths:
        _insert(root, torch.tensor(path.ids), torch.tensor(path.learned, dtype=torch.float))
    if not root.children:
        raise ConfigurationError("there is nothing to flatten: give at least one path with a token")
    return _flatten(root, shared)


def pack(tries: Sequence[Flattened]) -> Flattened:
    """Put several tries into one sequence; none sees another.

    >>> one = flatten([Sample([7, 8], [0, 1])])
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
class _Run:
    """Tokens that follow one another without a branch, and how many paths learn each; ``children`` by first token."""

    ids: Tensor
    learned: Tensor
    children: "dict[int, _Run]" = field(default_factory=dict[int, "_Run"])

    def split(self, length: int) -> None:
        """Keep ``length`` tokens; the rest becomes the first child."""
        rest = _Run(self.ids[length:], self.learned[length:], self.children)
        self.ids, self.learned = self.ids[:length], self.learned[:length]
        self.children = {int(rest.ids[0]): rest}


def _insert(root: _Run, ids: Tensor, learned: Tensor) -> None:
    run = root
    while len(ids):
        child = run.children.get(int(ids[0]))
        if child is None:
            run.children[int(ids[0])] = _Run(ids, learned)
            return
        common = _common(child.ids, ids)
        if common < len(child.ids):
            child.split(common)
        child.learned += learned[:common]
        run, ids, learned = child, ids[common:], learned[common:]


def _common(a: Tensor, b: Tensor) -> int:
    """Count the tokens that both begin with."""
    length = min(len(a), len(b))
    differ = (a[:length] != b[:length]).nonzero()
    return int(differ[0]) if len(differ) else length


def _flatten(root: _Run, shared: Shared) -> Flattened:
    runs: list[_Run] = []
    above: list[int] = []
    """The run that each run hangs on, -1 for those that begin a path; always an earlier one."""
    waiting = [(-1, child) for child in reversed(root.children.values())]
    while waiting:
        parent, run = waiting.pop()
        above.append(parent)
        waiting += [(len(runs), child) for child in reversed(run.children.values())]
        runs.append(run)

    lengths = [len(run.ids) for run in runs]
    starts, depths = [0], [0]
    for index in range(1, len(runs)):
        starts.append(starts[-1] + lengths[index - 1])
        depths.append(depths[above[index]] + lengths[above[index]] if above[index] >= 0 else 0)
    sizes = lengths.copy()  # of whole subtrees
    for index in range(len(runs) - 1, 0, -1):
        if above[index] >= 0:
            sizes[above[index]] += sizes[index]

    ids = torch.cat([run.ids for run in runs])
    parents = torch.arange(-1, len(ids) - 1)
    parents[starts] = torch.tensor([starts[run] + lengths[run] - 1 if run >= 0 else -1 for run in above])
    learned = torch.cat([run.learned for run in runs])
    edges = (learned > 0) & (parents >= 0)
    return Flattened(
        ids=ids,
        positions=torch.cat([torch.arange(depth, depth + n) for depth, n in zip(depths, lengths, strict=True)]),
        ends=torch.tensor([a + n for a, n in zip(starts, sizes, strict=True)]).repeat_interleave(torch.tensor(lengths)),
        parents=parents[edges],
        targets=ids[edges],
        weights=learned[edges] if shared == "calls" else torch.ones(int(edges.sum())),
    )
