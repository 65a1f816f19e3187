"""Reinforcement learning of a tiny model: quick right runs become frequent, and a killed run resumes."""

import json
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
import torch

from sprint_agents.errors import ConfigurationError, InvalidCheckpoint
from sprint_finetune.costs import CostModel
from sprint_finetune.rl import RlProblem, RlSettings, train
from sprint_finetune.rl.collection import read_scored
from sprint_finetune.rl.training import _Learner, draw, read_log

from .conftest import PROBLEM

pytestmark = pytest.mark.local

COSTS = CostModel(step={1: 0.002, 4: 0.004})


@pytest.fixture
def settings(tiny: Path, tmp_path: Path):
    def make(**changes: Any) -> RlSettings:
        problems = tmp_path / "problems.jsonl"
        problems.write_text(json.dumps({"problem": PROBLEM, "answer": "10"}) + "\n")
        values = {
            "model": tiny,
            "problems": problems,
            "output": tmp_path / "run",
            "costs": COSTS,
            "iterations": 4,
            "group": 16,
            "rho": 1.0,
            "learning_rate": 1e-3,
            "seed": 1,
        }
        return RlSettings.model_validate({**values, **changes})

    return make


@pytest.mark.parametrize("method", ["p-grpo", "expert-iteration"])
def test_quick_right_runs_become_frequent(settings, method):
    log = read_log(train(settings(method=method, iterations=8)).parent)
    # Sixteen rollouts tell little, so several iterations are compared.
    for count in ("seconds", "tokens"):
        assert median(line[count] for line in log[4:]) < 0.7 * mean(line[count] for line in log[:2])
    assert mean(line["right"] for line in log[4:]) >= log[0]["right"]


def test_a_killed_run_resumes_with_the_rollouts_and_the_state_that_it_has(settings, monkeypatch):
    chosen = settings(iterations=2)
    save, killed = _Learner.save, []

    def kill(self: _Learner, iteration: int) -> None:
        if iteration == 2:
            killed.append({name: value.clone() for name, value in self._model.state_dict().items()})
            raise KeyboardInterrupt
        save(self, iteration)

    monkeypatch.setattr(_Learner, "save", kill)
    with pytest.raises(KeyboardInterrupt):
        train(chosen)
    monkeypatch.undo()
    written = (chosen.output / "rollouts-0001.jsonl").read_bytes()
    train(chosen)
    assert (chosen.output / "rollouts-0001.jsonl").read_bytes() == written
    after = torch.load(chosen.output / "state.pt", weights_only=True)
    assert after["iteration"] == 2
    for name, value in after["model"].items():
        torch.testing.assert_close(value, killed[0][name])
    assert [line["iteration"] for line in read_log(chosen.output)] == [0, 1]


def test_rollouts_of_a_killed_iteration_are_completed(settings):
    chosen = settings(iterations=1)
    train(chosen)
    path = chosen.output / "rollouts-0000.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 16
    (chosen.output / "state.pt").unlink()
    path.write_bytes(b"".join(lines[:7]) + lines[7][:50])
    train(chosen)
    assert path.read_bytes().splitlines(keepends=True)[:7] == lines[:7]
    assert sorted(one.member for one in read_scored(path)) == [*range(16)]


def test_a_run_with_other_settings_is_not_resumed(settings):
    train(settings(iterations=1))
    with pytest.raises(ConfigurationError, match=r"rho was 1\.0"):
        train(settings(iterations=1, rho=0.5))


def test_a_model_without_a_manifest_is_refused(settings, tmp_path):
    with pytest.raises(InvalidCheckpoint, match="fine-tune it first"):
        train(settings(model=tmp_path))


def test_all_problems_are_drawn_before_any_is_repeated(settings):
    problems = [RlProblem(problem=f"{number}?") for number in range(6)]
    chosen = settings(problems_per_iteration=3)
    drawn = [draw(problems, chosen, iteration) for iteration in range(4)]
    for first, second in (drawn[:2], drawn[2:]):
        assert sorted([*first, *second]) == [*range(6)]
    assert draw(problems, chosen, 1) == drawn[1]
