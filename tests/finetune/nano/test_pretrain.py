"""Pretraining: a killed run resumes and ends as an uninterrupted run does."""

import asyncio
import json
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from sprint_agents import Sampling, State
from sprint_agents.engines import LocalEngine
from sprint_agents.errors import ConfigurationError, UnsupportedTask
from sprint_agents.manifest import Manifest
from sprint_agents.nano.tasks import understand
from sprint_finetune.nano.countdown_search import LARGEST
from sprint_finetune.nano.export import WEIGHTS, export_checkpoint
from sprint_finetune.nano.pretrain import learning_rate, new_model, train
from sprint_finetune.nano.tokenizer import build_tokenizer

SHORT = {"mix": "roles", "problems_per_step": 1, "tokens_per_batch": 2048, "compiled": False}

PROGRAM = """
import io, os, sys
from pathlib import Path
import torch
from transformers import LlamaForCausalLM
from sprint_finetune.nano.pretrain import train

folder, moment, last, options = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
steps_taken = 0
save, write, step = torch.save, LlamaForCausalLM.save_pretrained, torch.optim.AdamW.step

def wait_for_the_end(at):
    if (moment, last) == at:
        print("here", flush=True)
        sys.stdin.read()

def save_half(state, path):
    whole = io.BytesIO()
    save(state, whole)
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    wait_for_the_end(("state", state["step"]))
    path.write_bytes(whole.getvalue())

def write_late(self, *arguments, **options):
    wait_for_the_end(("checkpoint", steps_taken))
    write(self, *arguments, **options)

def step_and_count(self, *arguments, **options):
    global steps_taken
    step(self, *arguments, **options)
    steps_taken += 1
    wait_for_the_end(("update", steps_taken))

torch.save, LlamaForCausalLM.save_pretrained, torch.optim.AdamW.step = save_half, write_late, step_and_count
train(folder, minutes_between_checkpoints=0.0, **options)
"""
"""Trains, prints a line at a chosen moment, and waits to be killed."""


def killed(folder, *, moment, at, **options):
    """Train in a separate process, until ``SIGKILL`` ends it."""
    command = [sys.executable, "-c", PROGRAM, str(folder), moment, str(at), repr(options)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert "here\n" in iter(process.stdout.readline, "")
        process.kill()
    assert process.returncode == -signal.SIGKILL


def state(folder):
    return torch.load(folder / "state.pt", weights_only=True)


def test_a_run_killed_anywhere_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    options = SHORT | {"mix": "chains", "families": {"arithmetic": 1.0}, "steps": 4}
    train(tmp_path / "whole", **options)
    parts = tmp_path / "parts"
    for moment, at, kept in (
        ("state", 1, None),  # the first state is half-written
        ("state", 2, 1),  # the second is
        ("update", 2, 2),  # the first state after resuming is complete; the next step is taken but not saved
        ("checkpoint", 2, 4),  # the state of the last step is complete, its checkpoint is still that of the step before
    ):
        killed(parts, moment=moment, at=at, **options)
        assert (state(parts)["step"] if kept else None) == kept
    train(parts, **options)
    whole, resumed = state(tmp_path / "whole"), state(parts)
    assert all(torch.equal(whole["model"][name], resumed["model"][name]) for name in whole["model"])
    assert (resumed["step"], resumed["tokens"]) == (4, whole["tokens"])
    shipped = LlamaForCausalLM.from_pretrained(parts / "checkpoint").state_dict()
    assert all(torch.equal(shipped[name], whole["model"][name]) for name in whole["model"])
    assert log_of(parts) == log_of(tmp_path / "whole")


def log_of(folder):
    """The log without its times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_a_run_goes_on_with_the_settings_that_it_began_with_only(tmp_path):
    train(tmp_path, steps=1, **SHORT)
    with pytest.raises(ConfigurationError, match="started with mix = 'roles': resume it with the same"):
        train(tmp_path, steps=2, **SHORT | {"mix": "chains"})
    with pytest.raises(ConfigurationError, match="seed = 0"):
        train(tmp_path, steps=2, seed=1, **SHORT)
    train(tmp_path, steps=2, **SHORT)
    assert state(tmp_path)["step"] == 2


def test_a_run_begins_from_a_checkpoint(tmp_path):
    train(tmp_path / "base", steps=1, **SHORT | {"mix": "chains"})
    train(tmp_path / "run", steps=1, start=tmp_path / "base" / "checkpoint", peak=0.0, **SHORT)
    base, run = state(tmp_path / "base")["model"], state(tmp_path / "run")["model"]
    assert all(torch.equal(base[name], run[name]) for name in base)


def test_an_exported_run_is_a_checkpoint_that_the_engine_opens(tmp_path):
    train(tmp_path / "run", steps=1, **SHORT)
    export_checkpoint(tmp_path / "run", tmp_path / "model")
    manifest = Manifest.load(tmp_path / "model")
    assert manifest is not None
    assert manifest.model == "sprint-nano"
    understand("countdown 3 7 25 46", manifest)
    with pytest.raises(UnsupportedTask):
        understand("countdown 3 7 99 46", manifest)
    assert LocalEngine(tmp_path / "model").manifest == manifest
    export_checkpoint(tmp_path / "run", tmp_path / "twin", name="sprint-nano-twin")
    assert Manifest.load(tmp_path / "twin") == manifest.model_copy(update={"model": "sprint-nano-twin"})


def test_an_export_may_be_the_mean_with_what_the_run_began_from(tmp_path):
    train(tmp_path / "run", steps=1, **SHORT)
    began, target = tmp_path / "began", tmp_path / "target"
    export_checkpoint(tmp_path / "run", began)
    weights = load_file(began / "model.safetensors")
    save_file({name: 3 * one for name, one in weights.items()}, began / "model.safetensors")
    export_checkpoint(tmp_path / "run", target, mean_with=began)
    mean = load_file(target / "model.safetensors")
    assert all(torch.allclose(mean[name], 2 * one) for name, one in weights.items())
    LocalEngine(target)

    save_file({name: one[:1] for name, one in weights.items()}, began / "model.safetensors")
    with pytest.raises(ConfigurationError, match="other shapes"):
        export_checkpoint(tmp_path / "run", target, mean_with=began)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_export_may_store_weights_in_half_precision(tmp_path, dtype):
    train(tmp_path / "run", steps=1, **SHORT)
    export_checkpoint(tmp_path / "run", tmp_path / "whole")
    export_checkpoint(tmp_path / "run", tmp_path / "half", dtype=dtype)
    whole, half = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "half"))
    assert {one.dtype for one in whole.values()} == {torch.float32}
    assert {name: one.to(getattr(torch, dtype)) for name, one in whole.items()}.keys() == half.keys()
    assert all(torch.equal(half[name], one.to(getattr(torch, dtype))) for name, one in whole.items())
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.6 * (tmp_path / "whole" / WEIGHTS).stat().st_size

    opened = LlamaForCausalLM.from_pretrained(tmp_path / "half", dtype="auto").state_dict()
    assert {one.dtype for one in opened.values()} == {torch.float32}
    assert all(torch.equal(opened[name], one.float()) for name, one in half.items())

    async def generate():
        async with LocalEngine(tmp_path / "half", threads=1) as engine:
            state = State(engine, sampling=Sampling(temperature=0))
            await state.append("Use 7, 3 to make 21.\n")
            return await state.generate(max_tokens=4)

    assert len(asyncio.run(generate()).ids) == 4


def test_the_rate_rises_holds_and_falls_to_zero():
    rates = [learning_rate(step, steps=1000, peak=1.0, warm_up=100, decay=0.25) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert set(rates[99:751]) == {1.0}
    assert rates[1000] == 0.0
    assert rates[750:] == sorted(rates[750:], reverse=True)


def test_number_tokens_begin_as_waves_of_their_value():
    tokenizer = build_tokenizer()
    table = new_model(tokenizer).get_input_embeddings().weight
    rows = table[tokenizer.convert_tokens_to_ids([str(number) for number in range(LARGEST + 1)])]
    near = torch.cosine_similarity(rows[:-1], rows[1:]).mean()
    far = torch.cosine_similarity(rows[:-50], rows[50:]).mean()
    assert near > far
