"""Attention by blocks computes what SDPA computes, forward and backward."""

import copy
import random

import pytest
import torch

from sprint_finetune.nano.attention import BLOCKS, register_blocks
from sprint_finetune.nano.batches import calls_of_problem, encode
from sprint_finetune.nano.pretrain import new_model
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.training.collation import Collator
from sprint_finetune.training.loss import edge_loss
from sprint_finetune.training.trie import flatten


def rows(tokenizer, mix):
    """Return three rows of calls of arithmetic: some are shorter than a block of queries, and some longer."""
    read = (calls_of_problem(random.Random(n), seed=str(n), mix=mix, family="arithmetic")[0] for n in range(3))
    return [flatten([encode(call, tokenizer) for call in calls], shared="calls") for calls in read]


@pytest.mark.parametrize("mix", ["chains", "roles"])
def test_loss_and_gradients_are_those_of_sdpa(mix):
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    stock = new_model(tokenizer)
    ours = copy.deepcopy(stock)
    register_blocks()
    ours.set_attn_implementation(BLOCKS)
    batch = Collator(tokenizer.pad_token_id)(rows(tokenizer, mix))
    assert ("ends" in batch) == (mix == "roles")
    assert batch["input_ids"].shape[1] > 256

    losses = [edge_loss(model, batch, config=model.config) for model in (stock, ours)]
    for loss in losses:
        loss.backward()

    torch.testing.assert_close(losses[1], losses[0])
    for expected, parameter in zip(stock.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-3, atol=1e-3)
