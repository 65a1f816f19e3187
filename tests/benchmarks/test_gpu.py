"""The dry run of what checks a GPU: every part works on the CPU, and one that fails does not stop the others."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


def test_tokens_are_the_same(gpu: ModuleType, folder: Path) -> None:
    found = gpu.figures("tokens", "cpu", folder, dry_run=True)
    assert found["float32, own code"]["equal"] == found["of"]
    assert found["equal_transcripts"] == found["runs"]


def test_steps_and_replays_are_timed(gpu: ModuleType, folder: Path) -> None:
    steps = gpu.figures("decode", "cpu", folder, dry_run=True)
    assert all(step["ms"] > 0 and step["prefix_ms"] > 0 for step in steps.values())
    replayed = gpu.figures("speedup", "cpu", folder, dry_run=True)
    assert replayed["0.5B, bfloat16"][0]["speed_up"] > 0


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns
def test_flex_attention_computes_what_sdpa_does(gpu: ModuleType, folder: Path) -> None:
    assert gpu.figures("flex", "cpu", folder, dry_run=True)["logits_close"]


def test_training_takes_steps(gpu: ModuleType, folder: Path) -> None:
    found = gpu.figures("memory", "cpu", folder, dry_run=True)
    assert found["planned_gib"] > 0
    assert found["sdpa"]["chunked_loss"]
    assert len(gpu.figures("trainer", "cpu", folder, dry_run=True)["losses"]) == 2


def test_a_part_that_fails_does_not_stop_the_others(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "PARTS", {"flex": 0.01, "memory": 0.01})
    with pytest.raises(SystemExit, match="failed: flex, memory"):
        gpu.main(["--device", "cpu", "--out", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["memory"]["error"] == "it took more than 0.01 seconds"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_said_at_once(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "the device cuda cannot be used" in capsys.readouterr().err
