"""Rollouts for other libraries; `tests/recipes` reads the traces with verifiers itself."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sprint_agents import Sprint
from sprint_agents.errors import ConfigurationError
from sprint_agents.rollouts import Rollout, RolloutRecorder
from sprint_agents.testing import FakeEngine
from sprint_finetune.cli.commands import app
from sprint_finetune.rollouts import dump_episode, read_rollouts, to_dataset

SCRIPT = {
    "": "<Plan_1>\n<prompt_1.1>6*7</prompt_1.1>\n<prompt_1.2>100/4</prompt_1.2>\n</Plan_1>",
    "<execution_1.1>": "42",
    "<execution_1.2>": "25",
    "</Execution_1>": r"<Final_answer>\boxed{67}</Final_answer>",
}


@pytest.fixture
def rollouts() -> list[Rollout]:
    """A right one, and one that was not checked."""
    recorder = RolloutRecorder(FakeEngine(SCRIPT))
    checked, unchecked = Sprint(recorder, checker=lambda answer: answer == "67"), Sprint(recorder)
    return [with_small_ids(recorder.rollout(sprint.run_sync("6*7 + 100/4?"))) for sprint in (checked, unchecked)]


def with_small_ids(rollout: Rollout) -> Rollout:
    """Make the ids of the fake engine as small as those of a vocabulary."""
    branches = tuple(
        branch.model_copy(
            update={
                "pieces": tuple(
                    piece.model_copy(update={"ids": tuple(token % 1000 for token in piece.ids)})
                    for piece in branch.pieces
                )
            }
        )
        for branch in rollout.branches
    )
    return rollout.model_copy(update={"branches": branches})


@pytest.fixture
def path(rollouts: list[Rollout], tmp_path: Path) -> Path:
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(f"{rollout.model_dump_json()}\n" for rollout in rollouts))
    return path


def export(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_each_branch_is_a_path_of_nodes_of_its_own(rollouts: list[Rollout]) -> None:
    (trace,) = json.loads(dump_episode(rollouts[0]))["traces"]
    nodes = trace["nodes"]
    assert [node["parent"] for node in nodes] == [None, 0, 1, 2, None, 4, None, 6]
    assert [index for index, node in enumerate(nodes) if node["sampled"]] == [1, 3, 5, 7]
    assert all(len(node["token_ids"]) == len(node["mask"]) for node in nodes)
    assert [node["semantic_parents"] for node in nodes if node["semantic_parents"]] == [
        [{"node": 5, "type": "subagent_return"}, {"node": 7, "type": "subagent_return"}],
        [{"node": 1, "type": "subagent_call"}],
        [{"node": 1, "type": "subagent_call"}],
    ]
    assert [call["node"] for call in trace["calls"]] == [1, 3, 5, 7]
    assert trace["rewards"] == {"verified": {"score": 1.0}}
    assert trace["root_reply"] == "67"


def test_a_run_that_was_not_checked_has_no_reward(rollouts: list[Rollout]) -> None:
    (trace,) = json.loads(dump_episode(rollouts[1]))["traces"]
    assert trace["rewards"] == {}
    assert trace["ok"]


def test_command_writes_traces(path: Path, tmp_path: Path) -> None:
    said = export(path, "--out", tmp_path / "results")
    assert "2 runs, 6 branches" in said
    assert len((tmp_path / "results" / "traces.jsonl").read_text().splitlines()) == 2


def test_command_keeps_verified_runs_alone(path: Path, rollouts: list[Rollout], tmp_path: Path) -> None:
    export(path, "--out", tmp_path / "results", "--verified")
    (line,) = (tmp_path / "results" / "traces.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == rollouts[0].run_id


def test_command_writes_a_data_set(path: Path, rollouts: list[Rollout], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(path, "--out", tmp_path / "data", "--to", "datasets")
    rows = datasets.Dataset.from_parquet(str(tmp_path / "data" / "train.parquet"), cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 6
    assert rows.column_names == to_dataset(rollouts).column_names
    first, branch = rows[0], rollouts[0].branches[0]
    assert (first["input_ids"], first["reward"], first["logprobs"]) == (branch.ids, 1.0, branch.logprobs)
    assert [bool(sampled) for sampled in first["completion_mask"]] == branch.mask


def test_a_file_that_was_cut_short_is_read_up_to_there(path: Path, rollouts: list[Rollout]) -> None:
    path.write_bytes(path.read_bytes()[:-40])
    assert read_rollouts(path) == rollouts[:1]


def test_the_last_rollout_of_a_run_counts(path: Path, rollouts: list[Rollout]) -> None:
    later = rollouts[0].model_copy(update={"verified": False})
    with path.open("a") as file:
        file.write(later.model_dump_json() + "\n")
    assert [rollout.verified for rollout in read_rollouts(path)] == [False, None]


@pytest.mark.parametrize("line", ["{}", "no JSON", '{"run_id": 5}'])
def test_another_line_is_refused_with_its_number(path: Path, line: str) -> None:
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(ConfigurationError, match="line 1 is not a rollout"):
        read_rollouts(path)


def test_a_missing_file_and_an_empty_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_rollouts(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "empty.jsonl"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "has no rollouts" in result.stderr
