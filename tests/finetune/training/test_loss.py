"""Training equals inference: in stock models, every completion token has the logits of its call."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.countdown import problems, solution_of
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import executors, planner
from sprint_finetune.training.collation import Collator, PackedRows
from sprint_finetune.training.corpus import flatten_calls
from sprint_finetune.training.encoding import encode_calls
from sprint_finetune.training.loss import attention_arguments, edge_loss, plain_head
from sprint_finetune.training.masks import BLOCK
from sprint_finetune.training.trie import TokenPath, flatten, pack

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
    "initializer_range": 0.3,  # makes the effect of visible tokens far larger than the tolerance
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
SLIDING = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen2-sliding": (Qwen2ForCausalLM, Qwen2Config, SLIDING),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    "mistral-sliding": (MistralForCausalLM, MistralConfig, {"sliding_window": 3}),
}
TOLERANCE = {"atol": 1e-4, "rtol": 0}


def make(name, vocabulary):
    torch.manual_seed(0)
    model, config, options = MODELS[name]
    return model(config(vocab_size=vocabulary, attn_implementation="sdpa", **SHAPE, **options)).eval()


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return make(request.param, 12)


@st.composite
def samples(draw):
    tokens = draw(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=10))
    return TokenPath([token for token, _ in tokens], [learned for _, learned in tokens])


forests = st.lists(samples(), min_size=1, max_size=5)
few = settings(max_examples=15, deadline=None)


def nodes(trie, ids):
    """The tokens of the trie that spell a path."""
    children, above = {}, []
    for index, token in enumerate(trie.ids.tolist()):
        while above and trie.ends[above[-1]] <= index:
            above.pop()
        children[above[-1] if above else None, token] = index
        above.append(index)
    found = []
    for token in ids:
        found.append(children[found[-1] if found else None, token])
    return found


def check_logits(model, paths):
    """Compare the trie's logits with those of each path by itself, at every token before a learned one."""
    trie = flatten(paths)
    batch = Collator()([trie])
    with torch.no_grad():
        together = model(input_ids=batch["input_ids"], **attention_arguments(batch, model.config)).logits[0]
        for path in paths:
            alone = model(input_ids=torch.tensor([path.ids])).logits[0]
            before = [index - 1 for index in range(1, len(path.ids)) if path.learned[index]]
            places = nodes(trie, path.ids)
            torch.testing.assert_close(together[[places[index] for index in before]], alone[before], **TOLERANCE)


@few
@given(paths=forests)
def test_logits_of_random_tries_are_those_of_the_calls(model, paths):
    check_logits(model, paths)


works = st.builds(
    lambda draw, seed: draw(str(seed)),
    st.sampled_from(
        [
            lambda seed: solution_of(*next(problems(seed=seed, split="train", counts=(3,)))),
            lambda seed: next(arithmetic.problems(seed=seed, split="train")),
            lambda seed: next(multiplication.problems(seed=seed, split="train")),
        ]
    ),
    st.integers(0, 10**6),
)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module", params=MODELS)
def reader(request, tokenizer):
    return make(request.param, len(tokenizer))


@settings(max_examples=3, deadline=None)
@given(work=works)
def test_logits_of_real_trajectories_are_those_of_the_calls(reader, tokenizer, work):
    check_logits(reader, encode_calls([planner(work), *executors(work)], tokenizer))


@pytest.mark.skipif(shutil.which("g++") is None, reason="flex attention is compiled, which takes a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler warns
def test_flex_attention_computes_what_sdpa_does():
    model = make("llama", 600)
    trunk = TokenPath([*range(300)], [0] * 300)
    forest = [trunk, *(TokenPath([*range(50 * n), *[500 + n] * 90], [0] * (50 * n + 90)) for n in range(1, 6))]
    batch = Collator(multiple=BLOCK)([pack([flatten(forest), flatten(forest[:3])])])
    logits = {}
    with torch.no_grad():
        for attention in ("sdpa", "flex_attention"):
            model.set_attn_implementation(attention)
            arguments = attention_arguments(batch, model.config)
            logits[attention] = model(input_ids=batch["input_ids"], **arguments).logits
    assert arguments["attention_mask"].sparsity() > 25
    torch.testing.assert_close(logits["flex_attention"], logits["sdpa"], atol=1e-3, rtol=0)


def test_the_comparison_can_fail(model):
    """Under plain causal attention an executor sees its siblings, and the logits differ by more than the tolerance."""
    paths = [TokenPath([0, 1, 2, 3], [0, 1, 1, 1]), TokenPath([0, 3, 2, 1], [0, 1, 1, 1])]
    trie = flatten(paths)
    with torch.no_grad():
        together = model(input_ids=trie.ids[None]).logits[0]
        alone = model(input_ids=torch.tensor([paths[1].ids])).logits[0]
    assert (together[nodes(trie, paths[1].ids)] - alone).abs().max() > 100 * TOLERANCE["atol"]


def loss_of_calls(model, paths, *, once):
    """The loss of the calls one by one. With ``once``, a token that was learned before adds nothing."""
    total, known = torch.tensor(0.0), set()
    for path in paths:
        logits = model(input_ids=torch.tensor([path.ids])).logits[0]
        for index in range(1, len(path.ids)):
            if not path.learned[index] or (once and tuple(path.ids[: index + 1]) in known):
                continue
            known.add(tuple(path.ids[: index + 1]))
            total = total + functional.cross_entropy(logits[index - 1], torch.tensor(path.ids[index]))
    return total


@few
@given(several=st.lists(forests, min_size=1, max_size=3), shared=st.sampled_from(["once", "calls"]))
def test_the_loss_of_padded_and_packed_rows_is_that_of_the_calls(model, several, shared):
    tries = [flatten(paths, shared=shared) for paths in several]
    batch = Collator(multiple=8)([tries[0], pack(tries)])
    with torch.no_grad():
        loss = edge_loss(model, batch, config=model.config)
        each = [loss_of_calls(model, paths, once=shared == "once") for paths in several]
    torch.testing.assert_close(loss, each[0] + sum(each), atol=1e-3, rtol=1e-4)


def test_gradients_are_those_of_the_calls():
    model = make("llama", 12)
    paths = [TokenPath([5, 6, 7, 8], [0, 0, 1, 1]), TokenPath([5, 6, 9, 7], [0, 0, 1, 1])]

    def gradients(loss):
        model.zero_grad()
        loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    trie = gradients(edge_loss(model, Collator()([flatten(paths)]), config=model.config))
    calls = gradients(loss_of_calls(model, paths, once=True))
    torch.testing.assert_close(trie, calls, atol=1e-4, rtol=1e-4)


def test_a_row_that_teaches_nothing_has_gradients_of_zero():
    """All processes take equally many batches, so the last batch may contain only padding."""
    model = make("llama", 12)
    rows = PackedRows([flatten([TokenPath([5, 6], [0, 1])])], multiple=2)
    loss = edge_loss(model, Collator()([rows[1]]), config=model.config)
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_three_ways_learn_the_same_completions_from_other_contexts(tokenizer):
    """The loss is the same per call and in a trie. In one text, executions come after their siblings."""
    model = make("llama", len(tokenizer))
    work = next(arithmetic.problems(seed=5, split="train"))
    calls = [planner(work), *executors(work)]

    def loss(way):
        rows = flatten_calls(calls, tokenizer, way=way)
        with torch.no_grad():
            return edge_loss(model, Collator()(rows), config=model.config), sum(len(row.targets) for row in rows)

    (trie, edges), (single, tokens), (causal, _) = (loss(way) for way in ("trie", "calls", "causal"))
    assert edges == tokens
    torch.testing.assert_close(trie, single, atol=1e-2, rtol=1e-4)
    assert abs(causal - trie) > 1


@few
@given(several=st.lists(forests, min_size=1, max_size=3), chunk=st.integers(1, 5))
def test_the_loss_in_chunks_has_the_value_and_the_gradients_of_the_whole(model, several, chunk):
    """Rows of several lengths, branching tokens whose edges share logits, and rows of padding alone."""
    batch = Collator(multiple=8)([flatten(paths) for paths in several])
    results = []
    for head in (None, plain_head(model, model)):
        model.zero_grad()
        loss = edge_loss(model, batch, config=model.config, head=head, chunk=chunk)
        (loss / 3).backward()
        results.append([loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    assert head is model.lm_head
    for whole, chunked in zip(*results, strict=True):
        assert (whole - chunked).norm() <= 1e-3 * whole.norm() + 1e-5


def test_the_loss_in_chunks_computes_in_the_type_of_autocast(model):
    batch = Collator()([flatten([TokenPath([5, 6, 7, 8, 2, 3], [0, 1, 1, 1, 1, 1])])])
    losses = []
    for head in (None, model.lm_head):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses.append(edge_loss(model, batch, config=model.config, head=head, chunk=2))
        losses[-1].backward()
        losses.append(model.lm_head.weight.grad.clone())
    torch.testing.assert_close(losses[0], losses[2], atol=0, rtol=1e-2)
    assert torch.nn.functional.cosine_similarity(losses[1].flatten(), losses[3].flatten(), dim=0) > 0.99


def test_heads_whose_output_is_changed_are_not_plain():
    capped = Gemma2ForCausalLM(
        Gemma2Config(vocab_size=12, final_logit_softcapping=2.0, query_pre_attn_scalar=8, **SHAPE)
    )
    scaled = GraniteForCausalLM(GraniteConfig(vocab_size=12, logits_scaling=4.0, **SHAPE))
    assert plain_head(capped, capped) is None
    assert plain_head(scaled, scaled) is None


def test_a_head_in_half_precision_is_plain():
    """A wrapper such as accelerate's computes in bfloat16 and returns float32."""
    model = make("llama", 1000)

    def wrapped(**arguments):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(**arguments)
        output.logits = output.logits.float()
        return output

    assert plain_head(wrapped, model) is model.lm_head


def test_a_head_is_tried_out_without_compiling():
    model = make("llama", 12)
    model.set_attn_implementation("flex_attention")
    with torch.compiler.set_stance("fail_on_recompile"):
        assert plain_head(model, model) is model.lm_head
    assert model.config._attn_implementation == "flex_attention"


MEASURED = """
import sys
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from sprint_finetune.training import Collator, TokenPath, edge_loss, flatten

def most():
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1])

vocabulary = 152_064
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=vocabulary, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
batch = Collator()([flatten([TokenPath([*range(1000)], [0] + [1] * 999)])])
small = Collator()([flatten([TokenPath([*range(10)], [0] + [1] * 9)])])
edge_loss(model, small, config=model.config, head=model.lm_head).backward()
before = most()
edge_loss(model, batch, config=model.config, head=model.lm_head, chunk=256).backward()
print((most() - before) * 1024 / (256 * vocabulary * 4))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not report the memory of a process")
def test_memory_is_that_of_one_chunk_of_logits():
    """999 tokens, 256 at a time, of 152,064 words. All logits are 3.9 chunks, and autograd keeps several copies."""
    measured = subprocess.run([sys.executable, "-c", MEASURED], check=True, capture_output=True, text=True)
    assert float(measured.stdout) < 1.5
