"""The bridges to SGLang itself, in its own environment: three ways to the same fork."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sprint_agents.engines.sglang import SGLangServer

from .conftest import PYTHON, ROOT, START_TIMEOUT


@pytest.fixture(scope="module")
def results(server: SGLangServer, checkpoint: Path) -> dict[str, Any]:
    variables = os.environ | {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'integrations'}",
        "SGLANG_PLATFORM": "plain_cpu",
        "OMP_NUM_THREADS": "1",
    }
    command = [str(PYTHON), "-W", "ignore", str(Path(__file__).with_name("bridged.py")), str(checkpoint), server.url]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=START_TIMEOUT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_three_ways_to_the_same_fork(results: dict[str, Any]) -> None:
    ways = ("in process", "frontend", "served")
    texts = [results[way]["texts"] for way in ways]
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) == 4
    assert all(texts[0])
    assert [results[way]["cached"] for way in ways] == [True, True, True]


def test_a_run_in_process_is_the_run_on_a_server(results: dict[str, Any]) -> None:
    assert results["run"] == results["run served"]
    assert "<execution_1.1>" in results["run"]


def test_a_failure_of_a_branch_is_not_lost(results: dict[str, Any]) -> None:
    assert results["frontend"]["failed"] == ["failed", "succeeded"]


def test_in_process_a_request_ends_where_it_is_left(results: dict[str, Any]) -> None:
    assert results["troubles"] == {"aborted": "EngineUnavailable", "outside": "InvalidRequest", "running": 0}
