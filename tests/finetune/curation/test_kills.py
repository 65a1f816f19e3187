"""``sprint-finetune curate`` as a process that SIGKILL ends: no answer that was kept is asked for again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .counting_server import CountingModel, counting, questions_of

CONCURRENCY = 3
POINTS = (
    ("half traces.jsonl", 3),  # half a line of the third trace is written
    ("half completions.jsonl", 1),
    ("whole completions.jsonl", 2),  # the second answer of this process is written, and not used yet
    ("half completions.jsonl", 4),
    ("half steps.jsonl", 1),
    ("whole completions.jsonl", 5),
    ("half packed.jsonl", 2),
    ("half samples.jsonl", 1),
    ("half curated/train.jsonl", 1),
    ("whole curated/train.jsonl", 1),  # the samples are new, and their twins and the report are not
)

PROGRAM = """
import os, signal, sys
from sprint_finetune.cli.commands import app
from sprint_finetune.curation import output_files
from sprint_finetune.curation.stage_file import StageFile

where, left = "", 0
append, replace = StageFile.append, output_files._replace

def reached(point):
    global left
    left -= point == where
    return point == where and left == 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def append_and_die(self, trace_id, result):
    append(self, trace_id, result)
    if reached(f"half {self._path.name}"):
        start, size = self._places[trace_id]
        os.truncate(self._path, start + size // 2)
        die()
    if reached(f"whole {self._path.name}"):
        die()

def replace_and_die(path, lines):
    lines = list(lines)
    name = f"{path.parent.name}/{path.name}"
    if reached(f"half {name}"):
        content = b"".join(lines)
        path.with_name(f"{path.name}.new").write_bytes(content[: len(content) // 2])
        die()
    replace(path, lines)
    if reached(f"whole {name}"):
        die()

StageFile.append, output_files._replace = append_and_die, replace_and_die

for line in sys.stdin:
    where, left = line.rsplit(maxsplit=1)
    left = int(left)
    if (child := os.fork()) == 0:
        os.dup2(2, 1)
        try:
            app(sys.argv[1:])
        except SystemExit as end:
            os._exit(end.code or 0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Curates in a new process for each line of a point, and how often the process passes it until it is killed."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_ten_kills_lose_nothing_and_double_nothing(tmp_path: Path, make_trace) -> None:
    traces = [make_trace(f"t{number}", problem=f"How many for {number}?") for number in range(8)]
    source, out = tmp_path / "traces.jsonl", tmp_path / "curated"
    source.write_text("".join(trace.model_dump_json() + "\n" for trace in traces))
    model, asked, lost = CountingModel(), 0, 0
    with counting(model) as server:
        options = ["--by", "openai", "--url", server.base, "--model", "m", "--concurrency", str(CONCURRENCY)]
        command = ["curate", str(source), "--out", str(out), *options, "--max-share", "9", "--eval-share", "0"]
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for point, times in (*POINTS, ("nowhere", 1)):
                kept = kept_in(out)
                process.stdin.write(f"{point} {times}\n")
                process.stdin.flush()
                assert process.stdout.readline().strip() == ("0" if point == "nowhere" else "-9"), point
                new = model.asked[asked:]
                assert not {model.answered[text] for text in kept} & {*new}, point
                missing = len(new) - (len(kept_in(out)) - len(kept))
                assert 0 <= missing <= CONCURRENCY
                asked, lost = len(model.asked), lost + missing
    assert len(kept_in(out)) == len({*model.asked}) == questions_of(traces)
    assert len(model.asked) == questions_of(traces) + lost
    assert lost >= 2  # of two answers, only half was written
    report = json.loads((out / "report.json").read_text())
    assert (report["traces"], report["samples"]) == (8, 8)
    for name in ("train.jsonl", "sequential/train.jsonl"):
        ids = [json.loads(line)["id"] for line in (out / name).read_text().splitlines()]
        assert ids == [trace.id for trace in traces]
    assert not list(out.rglob("*.new"))


def kept_in(out: Path) -> list[str]:
    """Read the answers that are on the disk. A kill may leave half a line at the end."""
    path = out / "completions.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["record"]["text"] for line in lines]
