"""Fine-tuning: a killed run resumes without a trace, in every way, with all weights or only adapters."""

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from transformers.integrations import integration_utils

from sprint_agents.errors import ConfigurationError, InvalidCheckpoint
from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path
from sprint_finetune.nano import arithmetic
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import planner
from sprint_finetune.training import devices
from sprint_finetune.training.checkpoints import load_tokenizer
from sprint_finetune.training.finetune import train
from sprint_finetune.training.settings import Lora, Settings
from sprint_finetune.training.trainer import EdgeTrainer
from sprint_finetune.training.vocabulary import missing_tags, tag_ids

ROWS = 6
RECIPES = Path(__file__).parents[3] / "finetune" / "recipes"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model's architecture, its tokenizer, and a file of curated samples."""
    folder = tmp_path_factory.mktemp("source")
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
        attention_dropout=0.1,  # makes a resumed run depend on the state of the random numbers
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    config.save_pretrained(folder)
    with (folder / "data.jsonl").open("w") as file:
        for number, work in enumerate(itertools.islice(arithmetic.problems(seed=1, split="train"), ROWS)):
            text = "".join(piece.text for piece in planner(work).pieces)
            file.write(json.dumps({"id": str(number), "problem": work.task.prompt, "text": text}) + "\n")
    return folder


@pytest.fixture(scope="module")
def bytes_alone():
    """A byte tokenizer without tags."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False)


def settings(source, output, **changes):
    values = {
        "model": str(source),
        "data": (source / "data.jsonl",),
        "output": output,
        "manifest": Manifest(model="tiny", temperature=0),
        "from_scratch": True,
        "pack": False,
        "epochs": 2,
        "learning_rate": 1e-2,
        "save_every": 1,
        "log_every": 1,
        **changes,
    }
    return Settings(**values)


def weights(run):
    return AutoModelForCausalLM.from_pretrained(run / "checkpoint").state_dict()


def logged(run):
    """The lines of the log that belong to a step."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def losses(run):
    return [line["loss"] for line in logged(run)]


def steps(run):
    return [line["step"] for line in logged(run)]


def test_a_killed_run_resumes_as_if_nothing_had_happened(source, tmp_path):
    train(settings(source, tmp_path / "whole", accumulate=2))
    killed = settings(source, tmp_path / "killed", accumulate=2)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'model = "{source}"\ndata = ["{source / "data.jsonl"}"]\noutput = "{tmp_path / "killed"}"\n'
        "from_scratch = true\npack = false\nepochs = 2\nlearning_rate = 1e-2\nsave_every = 1\nlog_every = 1\n"
        'accumulate = 2\n[manifest]\nmodel = "tiny"\ntemperature = 0\n'
    )
    assert Settings.load(recipe) == killed
    command = [sys.executable, "-u", "-m", "sprint_finetune.training.finetune", str(recipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        # The trainer logs a step before it saves it: step 4 is lost, step 3 is complete.
        for line in process.stdout:
            if line.startswith("{'loss'") and len(steps(tmp_path / "killed")) == 4:
                process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "checkpoint").exists()
    train(killed)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert steps(tmp_path / "whole") == steps(tmp_path / "killed") == [1, 2, 3, 4, 5, 6]
    train(killed)  # already finished
    again = weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    with pytest.raises(ConfigurationError, match=r"started with other settings: seed was 0 and is now 1\. Resume"):
        train(killed.model_copy(update={"seed": 1}))


def test_two_processes_take_the_steps_of_one(source, tmp_path):
    model = tmp_path / "model"
    LlamaConfig.from_pretrained(source, attention_dropout=0.0).save_pretrained(model)
    build_tokenizer().save_pretrained(model)
    alone, together = tmp_path / "alone", tmp_path / "together"
    train(settings(source, alone, model=str(model), accumulate=2, epochs=1))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'model = "{model}"\ndata = ["{source / "data.jsonl"}"]\noutput = "{together}"\n'
        "from_scratch = true\npack = false\nepochs = 1\nlearning_rate = 1e-2\nlog_every = 1\n"
        '[manifest]\nmodel = "tiny"\n'
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launch, "-m", "sprint_finetune.training.finetune", str(recipe)], check=True, capture_output=True)
    assert losses(together) == pytest.approx(losses(alone), rel=1e-5)
    one, other = weights(alone), weights(together)
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("way", ["causal", "calls", "trie"])
def test_an_epoch_sees_every_sample_once(source, tmp_path, monkeypatch, way):
    seen = []

    def note(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        seen.extend(inputs["input_ids"].flatten().tolist())
        return compute(self, model, inputs, return_outputs, num_items_in_batch)

    compute = EdgeTrainer.compute_loss
    monkeypatch.setattr(EdgeTrainer, "compute_loss", note)
    train(settings(source, tmp_path / way, way=way, pack=True, epochs=1, save_every=100))
    for line in (source / "data.jsonl").read_text().splitlines():
        sample = json.loads(line)
        question = build_tokenizer().encode(f"{sample['problem']}\n")
        count = sum(seen[place : place + len(question)] == question for place in range(len(seen)))
        assert count == 1 + (sample["text"].count("<prompt_") if way == "calls" else 0)
    assert Manifest.load(tmp_path / way / "checkpoint") == Manifest(model="tiny", temperature=0)


class Service(TrainerCallback):
    """A service that `report_to` names."""

    heard: ClassVar = []

    def on_log(self, arguments, state, control, logs=None, **options):
        self.heard.append(dict(logs))


def test_each_saved_checkpoint_solves_problems(tmp_path, monkeypatch):
    """sprint-nano, at a learning rate too low to change it: its answers are right, and it plans."""
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "clearml", Service)
    monkeypatch.setattr(devices, "get_available_reporting_integrations", lambda: ["clearml"])
    with (tmp_path / "data.jsonl").open("w") as file:
        for number, work in enumerate(itertools.islice(arithmetic.problems(seed=1, split="train"), 2)):
            text = "".join(piece.text for piece in planner(work).pieces)
            sample = {"id": str(number), "problem": work.task.prompt, "text": text, "answer": work.answer}
            file.write(json.dumps(sample) + "\n")
    changes = {"model": str(nano_path()), "from_scratch": False, "learning_rate": 1e-12, "steps": 1}
    manifest = Manifest.load(nano_path()).model_copy(update={"tasks": {}, "settles": None})
    changes |= {"solve": (tmp_path / "data.jsonl",), "report_to": ("clearml",)}
    run = settings(tmp_path, tmp_path / "run", manifest=manifest, **changes)
    train(run)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (line,) = [entry for entry in lines if "solved" in entry]
    assert (line["solved"], line["parallel"], line["failed"], line["step"]) == (1, 1, 0, 1)
    assert line["sequential_tokens"] > 50
    assert [name for logs in Service.heard for name in ("loss", "solved") if name in logs] == ["loss", "solved"]
    assert not list((tmp_path / "run").rglob("exported"))


def test_problems_without_answers_cannot_be_solved(source, tmp_path):
    with pytest.raises(ConfigurationError, match="6 of the problems to solve have no answer, such as '0'"):
        train(settings(source, tmp_path, solve=(source / "data.jsonl",)))


def test_a_service_that_is_not_installed_is_named(source, tmp_path):
    with pytest.raises(ConfigurationError, match="report_to names 'clearml', which is not installed"):
        train(settings(source, tmp_path, report_to=("clearml",)))


def test_held_out_samples_are_measured(source, tmp_path):
    run = tmp_path / "run"
    train(settings(source, run, held_out=(source / "data.jsonl",), epochs=1, save_every=100, learning_rate=3e-2))
    found = [json.loads(line).get("eval_loss") for line in (run / "log.jsonl").read_text().splitlines()]
    (held_out,) = [loss for loss in found if loss is not None]
    assert 0 < held_out < losses(run)[0]


LAYERS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def changed(before, after):
    """The parts of a model that differ."""
    return {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}


def test_adapters_are_merged_into_the_model(source, tmp_path):
    pytest.importorskip("peft")
    train(settings(source, tmp_path / "base", epochs=1, save_every=100))
    base, run = tmp_path / "base" / "checkpoint", tmp_path / "run"
    lora = Lora(rank=2, alpha=4)
    train(settings(source, run, model=str(base), from_scratch=False, lora=lora, epochs=1, save_every=100))
    assert changed(weights(tmp_path / "base"), weights(run)) == LAYERS


@pytest.mark.parametrize("tied", [True, False])
def test_tags_are_added_and_learned_even_by_adapters(source, bytes_alone, tmp_path, tied):
    pytest.importorskip("peft")
    model, run = tmp_path / "model", tmp_path / "run"
    config = LlamaConfig.from_pretrained(source, vocab_size=256, tie_word_embeddings=tied, max_position_embeddings=8192)
    LlamaForCausalLM(config).save_pretrained(model)
    bytes_alone.save_pretrained(model)
    told = settings(source, run, model=str(model), from_scratch=False, epochs=1, save_every=100, lora=Lora(rank=2))
    with pytest.raises(ConfigurationError, match=r"splits 12 tags, such as '<Plan_': set tags = \"add\""):
        train(told)
    train(told.model_copy(update={"tags": "add"}))
    tokenizer = load_tokenizer(str(run / "checkpoint"))
    assert missing_tags(tokenizer) == ()
    before = AutoModelForCausalLM.from_pretrained(run / "base").state_dict()
    after = weights(run)
    layers = {"embed_tokens", "lm_head"}
    assert changed(before, after) == LAYERS | layers
    for name in after:
        if name.split(".")[-2] in layers:
            rows = (before[name] != after[name]).any(dim=1).nonzero().flatten()
            assert set(rows.tolist()) <= set(tag_ids(tokenizer))


def test_tags_may_stay_in_pieces(source, bytes_alone, tmp_path):
    model, run = tmp_path / "model", tmp_path / "run"
    LlamaConfig.from_pretrained(source, vocab_size=256, max_position_embeddings=8192).save_pretrained(model)
    bytes_alone.save_pretrained(model)
    train(settings(source, run, model=str(model), tags="text", steps=1))
    assert weights(run)["model.embed_tokens.weight"].shape[0] == 256


def test_settings_that_do_not_fit_the_model_are_refused(source, tmp_path):
    with pytest.raises(ConfigurationError, match=r"context = 4096, but .* has only 2048 positions"):
        train(settings(source, tmp_path, context=4096))
    with pytest.raises(ConfigurationError, match=r"fsdp shards .* here 1 process\(es\) run on the CPU"):
        train(settings(source, tmp_path, fsdp=RECIPES / "fsdp.json"))
    with pytest.raises(ConfigurationError, match="there is no file"):
        train(settings(source, tmp_path, fsdp=tmp_path / "fsdp.json"))
    with pytest.raises(InvalidCheckpoint, match="has no readable tokenizer"):
        train(settings(source, tmp_path, model=str(tmp_path)))


def test_memory_savers_change_no_loss(source, tmp_path):
    """Gradient checkpointing computes the same weights, bfloat16 almost the same."""
    found = {}
    for name, changes in {"plain": {}, "saving": {"gradient_checkpointing": True}, "bf16": {"bf16": True}}.items():
        train(settings(source, tmp_path / name, steps=2, **changes))
        found[name] = losses(tmp_path / name)
    assert found["saving"] == pytest.approx(found["plain"], rel=1e-4)
    assert found["bf16"] == pytest.approx(found["plain"], rel=1e-2)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "bf16" / "checkpoint").dtype == torch.bfloat16
