"""Tags as single tokens: find those that a tokenizer splits, and write a checkpoint that has all of them.

A tag that is a single token is a stop id in a run, and has only one spelling.
"""

# pyright: reportUnknownMemberType=false
# The annotations of transformers are partial.

import shutil
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import AddedToken
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sprint_agents.dialects.tags.format import Tags, load_tags

from .checkpoints import load_model, load_tokenizer, unsharded


def missing_tags(tokenizer: PreTrainedTokenizerBase, *, tags: Tags | None = None) -> tuple[str, ...]:
    """Return the tags that the tokenizer splits into several tokens."""
    return tuple(tag for tag in (tags or load_tags()).special_tokens if len(_ids(tokenizer, tag)) != 1)


def tag_ids(tokenizer: PreTrainedTokenizerBase, *, tags: Tags | None = None) -> list[int]:
    """Return the ids of the tags that are single tokens."""
    found = [_ids(tokenizer, tag) for tag in (tags or load_tags()).special_tokens]
    return [ids[0] for ids in found if len(ids) == 1]


def add_tags(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, tags: Tags | None = None) -> None:
    """Make every missing tag one token, in place.

    Its rows in the embedding and the output layer start as the mean of its former tokens' rows, with the mean norm of
    the vocabulary. The plain mean of several rows is short, so its logit would be too small to be chosen.
    """
    missing = missing_tags(tokenizer, tags=tags)
    known = len(tokenizer)
    pieces = [_ids(tokenizer, tag) for tag in missing]
    new: list[Any] = [AddedToken(tag, special=True, normalized=False) for tag in missing]
    tokenizer.add_tokens(new, special_tokens=True)
    # Many checkpoints have more rows than tokens, padded for the hardware, so the matrix must never shrink.
    embedding: Any = model.get_input_embeddings()
    if len(tokenizer) > embedding.weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    matrices: dict[int, Tensor] = {
        id(layer.weight): layer.weight for layer in layers if layer is not None
    }  # tied weights appear once
    with torch.no_grad():
        for rows in matrices.values():
            norm = cast(Tensor, rows[:known].norm(dim=1)).mean()
            for tag, former in zip(missing, pieces, strict=True):
                rows[_ids(tokenizer, tag)[0]] = functional.normalize(rows[former].mean(0), dim=0) * norm


def extend_checkpoint(model: str, target: Path, *, from_scratch: bool = False, tags: Tags | None = None) -> None:
    """Write the checkpoint ``model`` to ``target`` with all tags as single tokens, unless ``target`` exists."""
    if target.exists():
        return
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    tokenizer = load_tokenizer(model)
    with unsharded():
        loaded = load_model(model, from_scratch=from_scratch)
        add_tags(loaded, tokenizer, tags=tags)
        loaded.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(target)  # if the process is killed, target is either complete or absent


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)
