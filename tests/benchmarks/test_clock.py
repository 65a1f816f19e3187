"""A small measurement of the clock: pairs, turns and the table."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from sprint_finetune.evaluation import OutcomeFile

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import clock

    return clock


def test_both_models_solve_the_same_problems_in_turns(
    clock: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--problems", "2", "0", "0", "--out", str(tmp_path / "clock.jsonl")]
    clock.main(options)
    table = capsys.readouterr().out
    runs = [json.loads(line) for line in (tmp_path / "clock.jsonl").read_text().splitlines()]
    assert [(run["method"], run["case"]) for run in runs] == [
        ("twin", "countdown-1"),
        ("shipped", "countdown-1"),
        ("shipped", "countdown-2"),
        ("twin", "countdown-2"),
    ]
    assert all(run["seconds"] > 0 and run["correct"] is not None for run in runs)
    assert "| countdown | all | shipped | 2 |" in table
    assert "| all | longest third | shipped | 1 |" in table
    with OutcomeFile(tmp_path / "clock.jsonl") as out:
        assert clock.table(clock.parse(options), out) in table


def test_every_setting_has_a_twin_on_the_same_engine(clock: ModuleType) -> None:
    assert {clock.twin_of(setting) for setting in clock.SETTINGS.values()} == {"twin", "twin, stock"}
