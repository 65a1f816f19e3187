"""Tags become single tokens whose rows start as the mean of their former tokens, as long as those of other tokens."""

import sys
import weakref

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.integrations import deepspeed

from sprint_agents.dialects.tags.format import load_tags
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.training.checkpoints import load_tokenizer
from sprint_finetune.training.vocabulary import add_tags, extend_checkpoint, missing_tags, tag_ids

TAGS = load_tags().special_tokens


def bytes_alone():
    """A byte tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False)


def small(rows, *, tied):
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def test_what_is_missing_is_found():
    assert missing_tags(build_tokenizer()) == ()
    assert missing_tags(bytes_alone()) == TAGS
    assert tag_ids(bytes_alone()) == []


@pytest.mark.parametrize("rows", [256, 320], ids=["grows", "has spare rows"])
@pytest.mark.parametrize("tied", [True, False])
def test_added_tags_begin_in_the_direction_of_their_pieces(rows, tied):
    tokenizer, model = bytes_alone(), small(rows, tied=tied)
    pieces = {tag: tokenizer.encode(tag) for tag in TAGS}
    layers = (model.get_input_embeddings, model.get_output_embeddings)
    before = [layer().weight.detach().clone() for layer in layers]
    add_tags(model, tokenizer)
    assert missing_tags(tokenizer) == ()
    assert len(set(tag_ids(tokenizer))) == len(TAGS)
    assert max(tag_ids(tokenizer)) < model.config.vocab_size == max(rows, len(tokenizer))
    text = f"a{''.join(TAGS)} b"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    for layer, old in zip(layers, before, strict=True):
        for tag, former in pieces.items():
            row, mean = layer().weight[tokenizer.encode(tag)[0]], old[former].mean(0)
            torch.testing.assert_close(row.norm(), old[:256].norm(dim=1).mean())
            torch.testing.assert_close(row / row.norm(), mean / mean.norm())
        assert torch.equal(layer().weight[:256], old[:256])


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model"
    small(256, tied=False).save_pretrained(path)
    bytes_alone().save_pretrained(path)
    return path


def test_an_extended_checkpoint_is_whole_or_not_there(source, tmp_path, monkeypatch):
    target = tmp_path / "extended"
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedTokenizerFast, "save_pretrained", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extend_checkpoint(str(source), target)
    assert not target.exists()
    extend_checkpoint(str(source), target)
    tokenizer, model = load_tokenizer(str(target)), AutoModelForCausalLM.from_pretrained(target)
    assert missing_tags(tokenizer) == ()
    assert model.config.vocab_size == len(tokenizer)


def test_zero_3_does_not_take_the_model_apart(source, tmp_path, monkeypatch):
    """If ZeRO-3 is configured, transformers loads models through deepspeed, which is not installed here."""

    class Zero:
        def is_zero3(self):
            return True

    zero = Zero()
    monkeypatch.setattr(deepspeed, "_hf_deepspeed_config_weak_ref", weakref.ref(zero))
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ImportError):
        AutoModelForCausalLM.from_pretrained(source)
    extend_checkpoint(str(source), tmp_path / "extended")
    assert deepspeed.is_deepspeed_zero3_enabled()
