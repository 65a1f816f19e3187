"""Checkpoints: the newest complete one of a killed run is found, and unreadable models are refused."""

import json
import shutil

import pytest

from sprint_agents.errors import ConfigurationError, InvalidCheckpoint
from sprint_agents.nano import nano_path
from sprint_finetune.training.checkpoints import load_model, load_tokenizer, newest_checkpoint, open_folder


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


def test_damaged_files_are_refused(tmp_path):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(nano_path() / name, tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InvalidCheckpoint, match="has no readable model: Error while deserializing header"):
        load_model(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidCheckpoint, match="has no readable tokenizer"):
        load_tokenizer(str(tmp_path))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    open_folder(tmp_path / "new" / "run")
    with pytest.raises(ConfigurationError, match="run cannot be written: Not a directory"):
        open_folder(tmp_path / "file" / "run")
