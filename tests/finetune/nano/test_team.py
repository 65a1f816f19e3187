"""Several processes that share each step learn what one process learns, and end with the one that started them."""

import signal
import subprocess
import sys

import pytest
import torch

from sprint_agents.errors import ConfigurationError
from sprint_finetune.nano.pretrain import train
from sprint_finetune.nano.team import Team

SHORT = {
    "mix": "chains",
    "problems_per_step": 3,
    "tokens_per_batch": 300,
    "compiled": False,
    "families": {"arithmetic": 1.0},
}

PROGRAM = """
import sys
from pathlib import Path
from sprint_finetune.nano import pretrain

def wait_for_the_end(*_, **__):
    print("here", flush=True)
    sys.stdin.read()

if __name__ == "__main__":
    pretrain._save = wait_for_the_end  # of this process only: the other one waits for its next step
    pretrain.train(Path(sys.argv[1]), steps=9, minutes_between_checkpoints=0.0, processes=2, **eval(sys.argv[2]))
"""


def test_a_share_is_about_as_much_work_as_any_other():
    batches = [{"input_ids": torch.zeros(1, length)} for length in (4848, 5154, 3514, 594, 4745, 378)]
    shares = [Team(member, 3).share(batches) for member in range(3)]
    lengths = [[batch["input_ids"].shape[1] for batch in share] for share in shares]
    assert sorted(length for share in lengths for length in share) == [378, 594, 3514, 4745, 4848, 5154]
    assert lengths == [[5154], [4848, 378], [4745, 3514, 594]] or max(map(sum, lengths)) < 9_000
    assert Team().share(batches) == batches


def test_two_processes_go_on_as_one_would(tmp_path):
    for name, processes in (("one", (1, 1)), ("both", (1, 2))):
        for steps, size in zip((1, 3), processes, strict=True):
            train(tmp_path / name, steps=steps, processes=size, peak=1e-3, **SHORT)
    one, both = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("one", "both"))
    assert (both["step"], both["tokens"]) == (3, one["tokens"])
    for name, weights in both["model"].items():
        torch.testing.assert_close(weights, one["model"][name], atol=1e-4, rtol=0)


def test_no_process_outlives_the_one_that_started_it(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", str(tmp_path / "run"), repr(SHORT)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert "here\n" in iter(process.stdout.readline, "")
        process.kill()
        process.stdout.read()  # ends when the last process that could write has ended
    assert process.returncode == -signal.SIGKILL


def test_a_gpu_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigurationError, match="2 processes would share the GPU: use one process"):
        train(tmp_path, steps=1, processes=2, **SHORT)
