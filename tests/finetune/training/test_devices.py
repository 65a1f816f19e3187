"""Settings that the machine, its packages or its processes cannot carry out are refused before anything is loaded."""

import sys
from types import ModuleType

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from sprint_agents.errors import ConfigurationError
from sprint_agents.manifest import Manifest
from sprint_finetune.training import Collator, TokenPath, edge_loss, flatten
from sprint_finetune.training.finetune import train
from sprint_finetune.training.loss import plain_head
from sprint_finetune.training.settings import Settings

LEAST = 'model = "m"\ndata = ["a.jsonl"]\noutput = "o"\nloss = "liger"\nshared = "calls"\n[manifest]\nmodel = "m"\n'


def settings(folder, **changes):
    return Settings(model="m", data=("d",), output=folder / "o", manifest=Manifest(model="m"), **changes)


@pytest.mark.parametrize(
    ("split", "name"), [("cp", "context parallelism"), ("sp", "sequence parallelism"), ("tp", "tensor parallelism")]
)
def test_rows_are_not_split_among_processes(tmp_path, monkeypatch, split, name):
    """These are the variables that ``accelerate launch --parallelism-config-cp-size 2`` sets."""
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv(f"PARALLELISM_CONFIG_{split.upper()}_SIZE", "2")
    with pytest.raises(ConfigurationError, match=rf"{name} over 2 processes.*--parallelism-config-{split}-size"):
        train(settings(tmp_path))


def test_liger_needs_a_gpu_its_package_and_equal_weights(tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match='for NVIDIA GPUs, and there is none here: use loss = "chunks"'):
        train(settings(tmp_path, loss="liger"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigurationError, match="run `pip install liger-kernel`"):
        train(settings(tmp_path, loss="liger"))
    (tmp_path / "recipe.toml").write_text(LEAST)
    with pytest.raises(ConfigurationError, match=r'weighs all edges alike.* shared = "calls"'):
        Settings.load(tmp_path / "recipe.toml")


def test_liger_is_called_with_one_row_for_each_edge(monkeypatch):
    """A stand-in with the signature of liger-kernel 0.6: the loss and its gradients are those of our own."""

    class FusedLoss:
        def __init__(self, *, reduction):
            self.reduction = reduction

        def __call__(self, lin_weight, _input, target, bias=None):
            return functional.cross_entropy(
                functional.linear(_input, lin_weight, bias), target, reduction=self.reduction
            )

    module = ModuleType("liger_kernel.transformers")
    module.LigerFusedLinearCrossEntropyLoss = FusedLoss
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", module)

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    branches = flatten([TokenPath([5, 6, 7, 8, 9], [0, 0, 1, 1, 1]), TokenPath([5, 6, 9, 7], [0, 0, 1, 1])])
    batch = Collator()([branches, flatten([TokenPath([1, 2, 3], [0, 1, 1])])])
    found = {}
    for kind in ("chunks", "liger"):
        model.zero_grad()
        loss = edge_loss(model, batch, config=model.config, head=plain_head(model, model), kind=kind)
        loss.backward()
        found[kind] = [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(ConfigurationError, match=r'are not the output of its last layer.* use loss = "chunks"'):
        edge_loss(model, batch, config=model.config, head=None, kind="liger")
