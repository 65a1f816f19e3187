"""``sprint-finetune curate`` as a process that is killed with -9: no answer that was kept is asked for again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from .counting_server import CountingModel, counting, questions_of

CONCURRENCY = 3


@pytest.mark.parametrize("kills", [[2, 11]])
def test_a_killed_curation_asks_again_only_what_was_in_flight(kills: Sequence[int], tmp_path: Path, make_trace) -> None:
    """Each process is killed when the server has seen so many requests in total."""
    traces = [make_trace(f"t{number}", problem=f"How many for {number}?") for number in range(8)]
    source, out = tmp_path / "traces.jsonl", tmp_path / "out"
    source.write_text("".join(trace.model_dump_json() + "\n" for trace in traces))
    model, lost = CountingModel(), 0
    with counting(model) as server:
        command = [sys.executable, "-m", "sprint_finetune.cli", "curate", str(source), "--out", str(out)]
        command += ["--by", "openai", "--url", server.base, "--model", "m", "--concurrency", str(CONCURRENCY)]
        command += ["--max-share", "9", "--eval-share", "0"]
        for kill in kills:
            asked, kept = len(model.asked), kept_in(out)
            model.hold_from = max(kill, asked + 1)
            model.reached.clear()
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                assert model.reached.wait(300)
                os.kill(process.pid, signal.SIGKILL)
            missing = len(model.asked) - asked - (len(kept_in(out)) - len(kept))
            assert 1 <= missing <= CONCURRENCY
            lost += missing
            assert not {model.answered[text] for text in kept} & {*model.asked[asked:]}
        model.hold_from = 10**9
        asked, kept = len(model.asked), kept_in(out)
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("8 traces: 8 samples")
    assert not {model.answered[text] for text in kept} & {*model.asked[asked:]}
    assert kept_in(out)[: len(kept)] == kept
    assert len(kept_in(out)) == len({*model.asked}) == questions_of(traces)
    assert len(model.asked) == questions_of(traces) + lost


def kept_in(out: Path) -> list[str]:
    """Read the answers that are on the disk. A kill may leave half a line at the end."""
    path = out / "completions.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["record"]["text"] for line in lines]
