"""Every form of mask agrees with the trie."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, MistralConfig, Qwen2Config

from sprint_agents.errors import ConfigurationError
from sprint_finetune.training import masks
from sprint_finetune.training.masks import ancestor_blocks, ancestor_mask, attention_masks


@st.composite
def trees(draw, size):
    """Ends and depths of some tries in a row of ``size`` tokens."""
    chosen = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    open_tokens, ends, depths = [], [size] * size, []
    for index, closed in enumerate(chosen):
        for _ in range(min(max(closed - 1, 0), len(open_tokens))):
            ends[open_tokens.pop()] = index
        depths.append(len(open_tokens))
        open_tokens.append(index)
    return torch.tensor(ends), torch.tensor(depths)


def brute_force(ends, depths, window=None):
    size = len(ends)
    seen = torch.zeros(size, size, dtype=torch.bool)
    for query in range(size):
        for key in range(query + 1):
            near = window is None or depths[query] - depths[key] < window
            seen[query, key] = query < ends[key] and near
    return seen


@given(st.lists(trees(12), min_size=1, max_size=3), st.sampled_from([None, 1, 3]))
def test_a_token_sees_its_ancestors(rows, window):
    ends, positions = (torch.stack(tensors) for tensors in zip(*rows, strict=True))
    mask = ancestor_mask(ends, positions=positions, window=window)
    assert mask.shape == (len(rows), 1, 12, 12)
    for row, (row_ends, depths) in enumerate(rows):
        assert torch.equal(mask[row, 0], brute_force(row_ends, depths, window))


@given(st.lists(trees(23), min_size=1, max_size=2), st.sampled_from([None, 3]))
@settings(max_examples=50)
def test_blocks_cover_exactly_what_is_seen(rows, window):
    size = 4
    ends, positions = (torch.stack(tensors) for tensors in zip(*rows, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "BLOCK", size)
        blocks = ancestor_blocks(ends, positions=positions, window=window)
    assert blocks.shape == (len(rows), 1, 23, 23)
    expected = ancestor_mask(ends, positions=positions, window=window)[:, 0]
    partial, full = (
        listed(blocks.kv_num_blocks, blocks.kv_indices),
        listed(blocks.full_kv_num_blocks, blocks.full_kv_indices),
    )
    for row in range(len(rows)):
        for query in range(23):
            for key in range(23):
                block = (row, query // size, key // size)
                assert block not in partial & full
                by_test = bool(
                    blocks.mask_mod(torch.tensor(row), torch.tensor(0), torch.tensor(query), torch.tensor(key))
                )
                assert by_test == expected[row, query, key]
                assert (block in full or (block in partial and by_test)) == expected[row, query, key]


def listed(counts, indices):
    return {
        (row, query, int(indices[row, 0, query, place]))
        for row in range(counts.shape[0])
        for query in range(counts.shape[2])
        for place in range(int(counts[row, 0, query]))
    }


ENDS, DEPTHS = torch.tensor([[5, 5, 5, 4, 5]]), torch.tensor([[0, 1, 2, 3, 3]])


def test_each_kind_of_layer_gets_its_own_mask():
    full = ancestor_mask(ENDS, positions=DEPTHS)
    near = ancestor_mask(ENDS, positions=DEPTHS, window=2)
    assert not torch.equal(full, near)
    llama = attention_masks(LlamaConfig(attn_implementation="sdpa"), ENDS, positions=DEPTHS)
    assert torch.equal(llama, full)
    mistral = attention_masks(MistralConfig(sliding_window=2, attn_implementation="sdpa"), ENDS, positions=DEPTHS)
    assert torch.equal(mistral, near)
    config = Qwen2Config(
        num_hidden_layers=2,
        use_sliding_window=True,
        sliding_window=2,
        max_window_layers=1,
        attn_implementation="sdpa",
    )
    mixed = attention_masks(config, ENDS, positions=DEPTHS)
    assert torch.equal(mixed["full_attention"], full)
    assert torch.equal(mixed["sliding_attention"], near)


def test_flex_attention_gets_blocks():
    config = LlamaConfig(attn_implementation="flex_attention")
    assert attention_masks(config, ENDS, positions=DEPTHS).shape == (1, 1, 5, 5)


def test_layers_that_are_no_attention_are_refused():
    config = LlamaConfig(attn_implementation="sdpa")
    config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ConfigurationError, match=r"linear_attention.*way = \"calls\""):
        attention_masks(config, ENDS, positions=DEPTHS)


@pytest.mark.parametrize("tokens", [1_024, 8_192, 32_768])
def test_blocks_take_a_fraction_of_a_mask_of_tokens_by_tokens(tokens):
    """Two numbers for each pair of blocks, and two for each block: 32,768 tokens take 1.0 MiB instead of 1 GiB."""
    positions = torch.arange(tokens)[None]
    blocks = ancestor_blocks(torch.full((1, tokens), tokens), positions=positions)
    listed_pairs = [blocks.kv_indices, blocks.full_kv_indices, blocks.q_indices, blocks.full_q_indices]
    counts = [blocks.kv_num_blocks, blocks.full_kv_num_blocks, blocks.q_num_blocks, blocks.full_q_num_blocks]
    size = sum(tensor.nbytes for tensor in (*listed_pairs, *counts))
    assert size == 16 * (tokens // 128) ** 2 + 16 * (tokens // 128)
    assert size < tokens**2 / 1000 + 16 * tokens / 128
