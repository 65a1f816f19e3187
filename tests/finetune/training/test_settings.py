"""Settings are read from recipes, and errors name what is wrong."""

from pathlib import Path

import pytest

from sprint_agents.errors import ConfigurationError
from sprint_finetune.training.settings import Settings

RECIPES = Path(__file__).parents[3] / "finetune" / "recipes"
LEAST = 'model = "m"\ndata = ["a.jsonl"]\noutput = "o"\nfsdp = "fsdp.json"\n[manifest]\nmodel = "m"\n'


def write(folder, text):
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_file_is_read_with_changes(tmp_path):
    settings = Settings.load(write(tmp_path, LEAST), changes={"way": "calls", "data": [Path("b.jsonl")]})
    assert settings.way == "calls"
    assert settings.data == (Path("b.jsonl"),)
    assert settings.fsdp == tmp_path / "fsdp.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model =", "cannot be read"),
        ('model = "m"', "data: Field required.*output: Field required"),
        ("speed = 3\n" + LEAST, "speed: Extra inputs"),
        ("epochs = 0\n" + LEAST, "epochs: .*greater than 0"),
        ('way = "tree"\n' + LEAST, "way: Input should be 'causal', 'calls' or 'trie'"),
    ],
)
def test_bad_settings_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigurationError, match=f"(?s)recipe.toml.*{message}"):
        Settings.load(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read"):
        Settings.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "path", sorted({*RECIPES.glob("*.toml")} - {*RECIPES.glob("*_rl.toml")}), ids=lambda path: path.name
)
def test_recipes_are_valid_and_name_files_that_exist(path):
    settings = Settings.load(path, changes={"data": ["train.jsonl"], "output": "run"})
    for beside in (settings.deepspeed, settings.fsdp):
        assert beside is None or beside.is_file()
