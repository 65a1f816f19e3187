"""A small measurement of what planning gains by the size of the model."""

import asyncio
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_a_model_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import sizes

    sized = ["--models", "random 0.5B", "--engines", "local", "--widths", "2", "3", "--at-once", "1", "2"]
    written = ["--out", str(tmp_path / "sizes.json"), "--plot", str(tmp_path / "sizes.svg")]
    asyncio.run(sizes.main(sizes.parse([*sized, "--tokens", "4", "--rounds", "1", "--dry-run", *written])))
    table = capsys.readouterr().out
    rows = json.loads((tmp_path / "sizes.json").read_text())
    assert [(row["at_once"], row["width"]) for row in rows] == [(1, 2), (1, 3), (2, 2), (2, 3)]
    assert all(row["speed_up"] > 0 for row in rows)
    assert "| random 0.5B | local |" in table
    assert (tmp_path / "sizes.svg").read_text().count("at once") >= 2 or (tmp_path / "sizes.svg").stat().st_size > 1000
