"""Ray Data on this machine, with two workers, one of which dies in the middle of its batch."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .solved_by_ray import AT_ONCE, DEADLY, WIDTH

ROOT = Path(__file__).parents[2]
RAY = ROOT / ".venv-real" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
TASKS = 24
BATCHES_AT_ONCE = 4
"""How many batches Ray gives a worker at a time."""


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders are too long for the names of Ray's sockets.
    path = Path(tempfile.mkdtemp(prefix="ray"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def solve(folder: Path) -> list[dict[str, Any]]:
    """Solve the tasks in another process, in whose environment there is Ray."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "integrations"), str(RAY)])
    home = {"HOME": str(folder), "RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
    command = [sys.executable, "-W", "ignore", "-m", "tests.real.solved_by_ray", str(folder), str(TASKS)]
    done = subprocess.run(command, env=os.environ | home, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_each_task_has_one_record_though_a_worker_died(folder: Path) -> None:
    records = sorted(solve(folder), key=lambda record: record["number"])
    assert (folder / "died").exists()
    assert [record["number"] for record in records] == [*range(TASKS)]
    failed, *others = records
    assert failed["error"] == "PolicyError"
    assert [record["answer"] for record in others] == [f"TASK {number}" for number in range(1, TASKS)]
    # What had finished was not done again, and what ran when the worker died was done once more at most.
    executed = Counter((folder / "executed").read_text().splitlines())
    assert set(executed) == {f"task {task}, part {part}" for task in range(1, TASKS) for part in range(1, WIDTH + 1)}
    assert executed[DEADLY] == 2
    assert executed.total() - len(executed) <= AT_ONCE * BATCHES_AT_ONCE
    # A second job takes all records from the journals.
    assert sorted(solve(folder), key=lambda record: record["number"]) == records
    assert Counter((folder / "executed").read_text().splitlines()) == executed
