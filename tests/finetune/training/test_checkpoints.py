"""Checkpoints: the newest complete one of a killed run is found, and unreadable models are refused."""

import json

import pytest

from sprint_agents.errors import InvalidCheckpoint
from sprint_finetune.training.checkpoints import load_model, load_tokenizer, newest_checkpoint


def leave(run, step, state):
    (run / f"checkpoint-{step}").mkdir()
    if state is not None:
        (run / f"checkpoint-{step}" / "trainer_state.json").write_text(state)


def test_the_newest_whole_checkpoint_is_found(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    whole = json.dumps({"global_step": 9})
    leave(tmp_path, 9, whole)
    leave(tmp_path, 10, json.dumps({"global_step": 10}))
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    for step, state in ((11, None), (12, ""), (13, whole[:-5]), (14, whole), (15, "[]")):
        leave(tmp_path, step, state)
    (tmp_path / "checkpoint-old").mkdir()
    (tmp_path / "checkpoint").mkdir()
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(InvalidCheckpoint, match="has no readable tokenizer"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(InvalidCheckpoint, match="has no readable model"):
        load_model(str(tmp_path))
