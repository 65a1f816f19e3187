"""The loss of rollouts: each token that the model sampled, in the context in which it was sampled.

All branches of a rollout form one trie (``training.trie``), so a plan that twelve executors read is computed once.
Each sampled token is an edge of it, and has one advantage: that of the run.
"""

# pyright: reportUnknownMemberType=false
# The annotations of torch are partial.

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from sprint_agents.errors import ConfigurationError
from sprint_agents.rollouts import Rollout
from sprint_finetune.training.collation import Batch, Collator
from sprint_finetune.training.loss import attention_arguments
from sprint_finetune.training.trie import Flattened, TokenPath, flatten

from .scoring import Learned


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A rollout as a trie, and the factor of its gradients. The weight of an edge is 1 - log p when it was sampled."""

    trie: Flattened
    gain: float


def row_of(rollout: Rollout, gain: float) -> PolicyRow | None:
    """Return the trie of a rollout's branches; None if nothing was sampled after a first token.

    An edge carries its log-probability in its weight, so that it stays with its token wherever the trie puts it. An
    engine without log-probabilities leaves 1, for expert iteration, which does not need them.
    """
    paths: list[TokenPath] = []
    for branch in rollout.branches:
        logprobs = branch.logprobs or [0.0] * len(branch.ids)
        weights = [1.0 - min(0.0, at) if mine else 0.0 for mine, at in zip(branch.mask, logprobs, strict=True)]
        paths.append(TokenPath(branch.ids, weights))
    if not any(path.ids for path in paths):
        return None
    trie = flatten(paths, shared="calls")
    return PolicyRow(trie, gain) if len(trie.weights) else None


def rows_of(learned: Iterable[Learned], *, needs_logprobs: bool) -> list[PolicyRow]:
    """Return the tries of rollouts.

    Raises:
        ConfigurationError: a rollout has no log-probabilities, and ``needs_logprobs``.
    """
    rows: list[PolicyRow] = []
    for scored, gain in learned:
        assert scored.rollout is not None
        if needs_logprobs and any(branch.logprobs is None for branch in scored.rollout.branches):
            raise ConfigurationError(
                f"{scored.rollout.engine} returned no log-probabilities, which p-grpo compares with: use the embedded "
                'engine or SGLang, or method = "expert-iteration"'
            )
        if row := row_of(scored.rollout, gain):
            rows.append(row)
    return rows


def batches_of(rows: Sequence[PolicyRow], *, padding: int, row_tokens: int) -> Iterator[tuple[Batch, Tensor]]:
    """Yield batches of similar lengths, of at most ``row_tokens`` tokens or one row, with the gain of each row."""
    collate, waiting = Collator(padding), sorted(rows, key=lambda row: len(row.trie))
    while waiting:
        chosen = [waiting.pop()]
        longest = len(chosen[0].trie)
        while waiting and (len(chosen) + 1) * longest <= row_tokens:
            chosen.append(waiting.pop())
        yield collate([row.trie for row in chosen]), torch.tensor([row.gain for row in chosen])


def edge_logprobs(model: Callable[..., Any], batch: Batch, *, config: PreTrainedConfig) -> Tensor:
    """Return the log-probability of each edge's target, of shape (rows, edges); padding has some value."""
    kept, places = cast(Any, torch).unique(batch["parents"], return_inverse=True)
    arguments = {"input_ids": batch["input_ids"], "use_cache": False, **attention_arguments(batch, config)}
    logits: Tensor = model(**arguments, logits_to_keep=kept).logits
    totals = logits.float().logsumexp(-1).gather(1, places)
    rows = torch.arange(len(places), device=places.device)[:, None]
    return logits[rows, places, batch["targets"]].float() - totals


def policy_loss(logprobs: Tensor, weights: Tensor, gains: Tensor, *, clip: float | None) -> Tensor:
    """Sum the loss of sampled tokens: their clipped importance ratio times the gain of their run, negated.

    ``clip=None`` is fine-tuning: the log-probability instead of the ratio. ``logprobs`` and ``weights`` have shape
    (rows, edges), and ``gains`` (rows,).

    >>> now, before = torch.tensor([[-1.0]]), torch.tensor([[2.0]])  # log p was 1 - 2 = -1
    >>> [round(policy_loss(now, before, torch.tensor([gain]), clip=0.2).item(), 3) for gain in (1.0, -1.0)]
    [-1.0, 1.0]
    >>> policy_loss(now + 1, before, torch.tensor([1.0]), clip=0.2).item()  # a ratio of e counts as 1.2
    -1.2000000476837158
    """
    sampled = weights > 0
    if clip is None:
        return -(logprobs * gains[:, None])[sampled].sum()
    ratio = (logprobs - (1.0 - weights)).exp()
    plain, clipped = ratio * gains[:, None], ratio.clamp(1 - clip, 1 + clip) * gains[:, None]
    return -torch.minimum(plain, clipped)[sampled].sum()
