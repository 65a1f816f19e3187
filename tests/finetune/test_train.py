"""Training: what a killed run leaves is enough to go on as if nothing had happened."""

import json
import sys

import pytest
import torch

from sprint_agents.engines import LocalEngine
from sprint_agents.errors import UnsupportedTask
from sprint_agents.manifest import Manifest
from sprint_agents.tasks import understand
from sprint_finetune.export import export
from sprint_finetune.search import LARGEST
from sprint_finetune.tokenizer import build_tokenizer
from sprint_finetune.train import learning_rate, new_model, train

SHORT = {"problems_per_step": 1, "tokens_per_batch": 2048, "chain_steps": 2, "answer_steps": 1, "compiled": False}


def weights(folder):
    return torch.load(folder / "state.pt", weights_only=True)["model"]


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, monkeypatch):
    train(tmp_path / "whole", steps=4, **SHORT)

    class Killed(Exception):
        pass

    saved = []

    def save_then_die(*arguments, **options):
        write(*arguments, **options)
        saved.append(options["step"])
        if len(saved) == 2:
            raise Killed

    module = sys.modules[train.__module__]
    write = module._save
    monkeypatch.setattr(module, "_save", save_then_die)
    with pytest.raises(Killed):
        train(tmp_path / "parts", steps=4, minutes_between_checkpoints=0.0, **SHORT)
    monkeypatch.undo()
    assert saved == [1, 2]
    train(tmp_path / "parts", steps=4, **SHORT)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert len(steps) == len(set(steps))


def test_an_exported_run_is_a_checkpoint_that_the_engine_opens(tmp_path):
    train(tmp_path / "run", steps=1, **SHORT)
    export(tmp_path / "run", tmp_path / "model")
    manifest = Manifest.load(tmp_path / "model")
    assert manifest is not None
    assert manifest.model == "sprint-nano"
    understand("countdown 3 7 25 46", manifest)
    with pytest.raises(UnsupportedTask):
        understand("countdown 3 7 99 46", manifest)
    assert LocalEngine(tmp_path / "model").manifest == manifest


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
