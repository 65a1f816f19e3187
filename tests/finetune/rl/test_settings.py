"""Recipes of reinforcement learning, and the files of problems that they name."""

from pathlib import Path

import pytest

from sprint_agents.errors import ConfigurationError
from sprint_finetune.rl import RlProblem, RlSettings

RECIPE = Path(__file__).parents[3] / "finetune" / "recipes" / "sprint_7b_rl.toml"


def test_the_recipe_is_valid():
    settings = RlSettings.load(RECIPE, changes={"method": "expert-iteration"})
    assert settings.method == "expert-iteration"
    assert settings.costs.step_seconds(20) == pytest.approx(0.00815)


def test_a_wrong_setting_is_named(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.read_text().replace("group = 8", "group = 1"))
    with pytest.raises(ConfigurationError, match="group: Input should be greater than or equal to 2"):
        RlSettings.load(recipe)


def test_costs_begin_at_width_one(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.read_text().replace("1 = 0.0075, ", ""))
    with pytest.raises(ConfigurationError, match="step needs the seconds of a step of width 1"):
        RlSettings.load(recipe)


def test_each_problem_is_read_once(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text('{"problem": "1+1?", "answer": "2", "id": "a"}\n\n{"problem": "1+1?", "answer": "2"}\n')
    assert RlProblem.read(path) == [RlProblem(problem="1+1?", answer="2")]


def test_only_line_feeds_end_a_problem(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_bytes('\ufeff{"problem": "a\u2028b\x85c", "answer": "2"}\r\n{"problem": "d"}'.encode())
    assert [one.problem for one in RlProblem.read(path)] == ["a\u2028b\x85c", "d"]


@pytest.mark.parametrize(
    ("content", "message"), [("", "has no problems"), ('{"problem": 3}', "line 1 is not a problem: problem")]
)
def test_a_file_without_problems_is_refused(tmp_path, content, message):
    path = tmp_path / "problems.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        RlProblem.read(path)
