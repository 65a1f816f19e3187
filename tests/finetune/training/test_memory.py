"""The estimate of a run's memory, against the peak of a real step in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig
from typer.testing import CliRunner

from sprint_agents.errors import ConfigurationError
from sprint_agents.manifest import Manifest
from sprint_finetune.cli.commands import app
from sprint_finetune.training.memory import GIB, RESERVED, MemoryModel
from sprint_finetune.training.settings import Lora, Settings

STEP = """
import sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from sprint_finetune.training import Collator, TokenPath, edge_loss, flatten
from sprint_finetune.training.loss import plain_head

def most():
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) * 1024

def step(model, tokens):
    half, ids = tokens // 2, [*range(tokens // 2)]
    paths = [TokenPath(ids, [0] + [1] * (half - 1)), TokenPath(ids[:-50] + ids, [0] * (half - 50) + [1] * half)]
    optimizer = torch.optim.AdamW(model.parameters())
    batch = Collator()([flatten(paths)])
    edge_loss(model, batch, config=model.config, head=plain_head(model, model), chunk=128).backward()
    optimizer.step()

def made(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()

config = AutoConfig.from_pretrained(sys.argv[1])
step(made(AutoConfig.for_model("llama", vocab_size=2000, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=1)), 300)  # loads what any step loads
before = most()
model = made(config)
if sys.argv[2] == "checkpointing":
    model.gradient_checkpointing_enable({"use_reentrant": False})
step(model, 2000)
print(most() - before)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a model of 21 million parameters."""
    folder = tmp_path_factory.mktemp("model")
    LlamaConfig(
        vocab_size=30_000,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
    ).save_pretrained(folder)
    return folder


def settings(source: Path, **changes: object) -> Settings:
    values = {"model": str(source), "data": ("data.jsonl",), "output": "run", "manifest": Manifest(model="tiny")}
    return Settings.model_validate({**values, "row_tokens": 2000, "logit_tokens": 128, **changes})


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not report the memory of a process")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_estimate_is_near_the_measured_peak(source: Path, checkpointing: bool) -> None:
    need = MemoryModel(settings(source, gradient_checkpointing=checkpointing)).need()
    command = [sys.executable, "-c", STEP, str(source), "checkpointing" if checkpointing else "whole"]
    measured = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0.7 < (need.total - RESERVED) / measured < 1.4


def test_the_longest_row_is_the_one_that_just_fits(source: Path) -> None:
    memory = MemoryModel(settings(source))
    longest = memory.largest_row(8 * GIB)
    assert memory.need(row_tokens=longest).total <= 8 * GIB < memory.need(row_tokens=longest + 2).total
    assert memory.largest_row(RESERVED) == 0


def test_shards_and_adapters_need_less(source: Path) -> None:
    alone = MemoryModel(settings(source)).need()
    sharded = MemoryModel(settings(source, fsdp="fsdp.json"), processes=4).need()
    assert sharded.optimizer == alone.optimizer / 4
    assert sharded.gathered > 0 == alone.gathered
    assert sharded.activations < alone.activations
    adapted = MemoryModel(settings(source, lora=Lora(rank=4))).need()
    assert adapted.weights == alone.weights
    assert adapted.optimizer < alone.optimizer / 10


def recipe(path: Path, model: Path) -> Path:
    path.write_text(f'model = "{model}"\nrow_tokens = 4096\n[manifest]\nmodel = "tiny"\n')
    return path


def test_the_command_says_on_which_cards_a_recipe_fits(source: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plan", str(recipe(tmp_path / "recipe.toml", source))])
    assert done.exit_code == 0, done.output
    assert "0.0213 billion parameters, rows of 4,096 tokens; GiB on one device:" in done.output
    assert "24 GB (RTX 4090, L4)   fits, up to row_tokens = " in done.output
    assert "gathered" not in done.output


def test_a_model_without_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no readable configuration"):
        MemoryModel(settings(tmp_path / "nothing"))
