import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.engines.local.attention import ForwardBatch, PrefillChunk, plain_attention
from sprint_agents.engines.local.kv_cache import Geometry, KVCache, KVSegment
from sprint_agents.engines.local.radix import SegmentRange
from sprint_agents.engines.local.stock import shared_prefix_attention

pytestmark = pytest.mark.local

LAYERS, WIDTH = 2, 8


def stored(cache: KVCache, keys: torch.Tensor) -> KVSegment:
    """A segment that holds ``keys``, ``[layers, 2, heads, tokens, width]``."""
    segment = cache.allocate(keys.shape[3])
    segment.body = keys
    return segment


def naive(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
    """One query ``[query heads, width]`` over keys ``[heads, tokens, width]``."""
    group = query.shape[0] // keys.shape[0]
    keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
    weights = torch.softmax((keys @ query.unsqueeze(-1)).squeeze(-1) * scale, -1)
    return (weights.unsqueeze(1) @ values).squeeze(1)


@given(
    heads=st.integers(1, 2),
    group=st.integers(1, 3),
    trunk=st.integers(1, 9),
    branches=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 12)), max_size=6),
    chunks=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(1, 4)), max_size=3),
    seed=st.integers(0, 10**6),
)
def test_a_forward_pass_over_a_tree_is_attention_over_each_path(
    heads: int,
    group: int,
    trunk: int,
    branches: list[tuple[int, int, int]],
    chunks: list[tuple[int, int, int]],
    seed: int,
) -> None:
    """Branches: (tokens of the trunk that they see, in their body, in their tail); chunks: (…, done, new)."""
    if not branches and not chunks:
        return
    torch.manual_seed(seed)
    cache = KVCache(Geometry(LAYERS, heads, group, WIDTH, torch.float32, torch.device("cpu")), tail_capacity=16)

    def fresh(tokens: int) -> torch.Tensor:
        return torch.randn(LAYERS, 2, heads, tokens, WIDTH)

    trunk_keys = fresh(trunk)
    trunk_segment = stored(cache, trunk_keys)
    paths: list[torch.Tensor] = []
    decoding: list[list[SegmentRange[KVSegment]]] = []
    for seen, body, tail in branches:
        seen = min(seen, trunk)
        own, tail_keys = fresh(body), fresh(tail + 1)
        runs = [SegmentRange(trunk_segment, 0, seen)] if seen else []
        decoding.append([*runs, SegmentRange(stored(cache, own), 0, body)] if body else runs)
        paths.append(torch.cat([trunk_keys[:, :, :, :seen], own, tail_keys], 3))
        segment = cache.allocate(0)
        cache.add_tail(segment)
        segment.tail_length = tail
    cache.make_room()
    for segment, path in zip(cache.rows, paths, strict=True):
        assert cache.slab is not None
        cache.slab[:, :, segment.row, :, : segment.tail_length] = path[
            :, :, :, path.shape[3] - segment.tail_length - 1 : -1
        ]
    prefills: list[PrefillChunk] = []
    for seen, done, tokens in chunks:
        seen = min(seen, trunk)
        keys = fresh(done + tokens)
        segment = cache.allocate(done + tokens)
        assert segment.body is not None
        segment.body[:, :, :, :done] = keys[:, :, :, :done]
        prefills.append(PrefillChunk(segment, [SegmentRange(trunk_segment, 0, seen)] if seen else [], done, tokens))
        path = torch.cat([trunk_keys[:, :, :, :seen], keys], 3)
        paths += [path[:, :, :, : seen + done + index + 1] for index in range(tokens)]
    batch = ForwardBatch(cache, decoding, prefills)
    batch.advance()
    for layer in range(LAYERS):
        batch.write(layer, torch.stack([path[layer, :, :, -1] for path in paths]))
        query = torch.randn(len(paths), group, heads, WIDTH)
        found = batch.attend(layer, query, scale=0.3)
        for index, path in enumerate(paths):
            by_head = query[index].transpose(0, 1).flatten(0, 1)
            expected = naive(by_head, path[layer, 0], path[layer, 1], 0.3)
            torch.testing.assert_close(found[index].transpose(0, 1).flatten(0, 1), expected, atol=1e-5, rtol=1e-4)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.booleans(), st.integers(0, 999))
def test_other_devices_compute_what_the_cpu_does(heads: int, queries: int, keys: int, masked: bool, seed: int) -> None:
    torch.manual_seed(seed)
    query, key, value = (torch.randn(1, heads, tokens, WIDTH) for tokens in (queries, keys, keys))
    mask = torch.zeros(1, 1, queries, keys)
    if masked:
        mask[..., 1:].masked_fill_(torch.rand(1, 1, queries, keys - 1) < 0.5, float("-inf"))
    found, weight = plain_attention(query, key, value, mask, scale=0.5)
    scores = query @ key.transpose(2, 3) * 0.5 + mask
    torch.testing.assert_close(weight, scores.logsumexp(-1))
    torch.testing.assert_close(found, torch.softmax(scores, -1) @ value)


@pytest.mark.parametrize("unsupported", [{"softcap": 30.0}, {"s_aux": torch.zeros(1)}])
def test_attention_of_another_kind_is_refused(unsupported: dict[str, object]) -> None:
    nothing = torch.zeros(0)
    with pytest.raises(NotImplementedError):
        shared_prefix_attention(
            torch.nn.Identity(), nothing, nothing, nothing, None, scaling=1.0, batch=None, **unsupported
        )
