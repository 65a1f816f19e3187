"""An evaluation that is killed by SIGKILL, again and again, asks nothing twice that it has an outcome of."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sprint_finetune.evaluation import OutcomeFile

PROGRAM = Path(__file__).with_name("killed.py")
REQUESTS = 15  # of three cases: one by the sequential method, four by the other
POINTS = ["1", "2", "2", "+1", "3", "1", "+1", "4"]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def evaluated(folder: Path, points: list[str], *, concurrency: int = 1) -> list[tuple[int, str, str]]:
    """Evaluate with these kills, and return the requests: the number of the process, the method and the case."""
    folder.mkdir()
    subprocess.run([sys.executable, PROGRAM, folder, str(concurrency), *points, "never"], check=True, timeout=600)
    return [
        (int(process), method, case)
        for process, method, case in map(str.split, (folder / "requests").read_text().splitlines())
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation that nothing interrupted."""
    folder = tmp_path_factory.mktemp("evaluation") / "whole"
    assert len(evaluated(folder, [])) == REQUESTS
    return folder


def outcomes(folder: Path) -> dict[object, object]:
    """Return the outcomes, without what depends on the machine and on the engine's cache."""
    changing = {"seconds": None, "recomputed_tokens": 0}
    with OutcomeFile(folder / "outcomes.jsonl") as out:
        return {key: outcome.model_copy(update=changing) for key, outcome in out.outcomes.items()}


def test_kills_change_nothing_and_finished_runs_are_not_repeated(tmp_path, whole):
    killed = tmp_path / "killed"
    requests = evaluated(killed, POINTS)
    assert outcomes(killed) == outcomes(whole)
    assert len((killed / "outcomes.jsonl").read_text().splitlines()) == 6
    for process in range(len(POINTS)):
        lines = map(json.loads, (killed / f"after-{process}").read_text().splitlines())
        done = {(line["method"], line["case"]) for line in lines}
        assert not [one for one in requests if one[0] > process and one[1:] in done]
    assert max(Counter(requests).values()) <= 4


def test_an_untimed_run_resumes_within(tmp_path):
    """Killed when the answer is requested, after plan and executions, only the answer is requested again."""
    folder = tmp_path / "killed"
    requests = evaluated(folder, ["4"], concurrency=2)
    assert [process for process, *_ in requests] == [0, 0, 0, 0, 1]
    assert not (folder / "unfinished").exists()


@pytest.mark.parametrize("cut", [1, 25])
def test_a_line_that_was_cut_is_dropped(tmp_path, whole, cut):
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes((whole / "outcomes.jsonl").read_bytes()[:-cut])
    with OutcomeFile(path) as out:
        assert len(out.outcomes) == 5
    assert len(path.read_text().splitlines()) == 5
