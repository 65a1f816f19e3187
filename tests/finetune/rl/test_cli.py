"""``sprint-finetune rl``: a recipe with changes, a table and a picture of the progress."""

import json

import pytest
from typer.testing import CliRunner

from sprint_finetune.cli.commands import app

from .conftest import PROBLEM

pytestmark = pytest.mark.local


def test_a_recipe_is_run_with_the_changes_of_the_command(tiny, tmp_path):
    (tmp_path / "problems.jsonl").write_text(json.dumps({"problem": PROBLEM, "answer": "10"}))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'model = "{tiny}"\nproblems = "{tmp_path}/problems.jsonl"\noutput = "{tmp_path}/unused"\n'
        "group = 4\niterations = 9\n[costs]\nstep = { 1 = 0.002, 4 = 0.004 }\n"
    )
    changes = ["--method", "expert-iteration", "--output", str(tmp_path / "run"), "--iterations", "1"]
    done = CliRunner().invoke(app, ["rl", str(recipe), *changes])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("iteration=0 reward=")
    assert done.stdout.rstrip().endswith("checkpoint")
    assert (tmp_path / "run" / "progress.svg").read_text().startswith("<?xml")
    assert not (tmp_path / "unused").exists()


def test_a_recipe_with_a_fault_ends_with_a_message(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("group = 4\n")
    done = CliRunner().invoke(app, ["rl", str(recipe)])
    assert done.exit_code == 2
    assert "model: Field required" in done.output
