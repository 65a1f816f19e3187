"""Every example as a user runs it: its command, in a process of its own, on a machine without a model server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from sprint_agents.policies import BUILT_IN
from tests.sglang.conftest import free_port

ROOT = Path(__file__).parents[2]
RECORDED = ("any_engine", "code_review", "research", "write_tests")
NOWHERE = "http://127.0.0.1:1"


def run(name, *arguments, **options):
    """Run an example from the repository's root, without keys; tests run side by side, so each has one thread."""
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, f"examples/{name}.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, **options)


def printed(name, *arguments):
    ended = run(name, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@pytest.mark.parametrize("name", RECORDED)
def test_a_recording_says_that_it_is_one(name):
    first, *others = printed(name).splitlines()
    assert "record" in first
    assert "SmolLM2-135M-Instruct (Q4_1) on llama.cpp" in first
    assert others or "euros" in first


def test_the_recorded_runs():
    assert '- hours.md: "The museum is open from Tuesday to Sunday, from 10 to 18."' in printed("research")
    assert "prices.py: return 0 if age > 12 else 12  # " in printed("code_review")
    assert "def test_" in printed("write_tests")
    assert printed("any_engine").count("euros=") == 3


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("research", ("--url", f"{NOWHERE}/v1")),
        ("code_review", ("--url", f"{NOWHERE}/v1")),
        ("write_tests", ("--url", f"{NOWHERE}/v1")),
        ("any_engine", ("llama.cpp", f"{NOWHERE}/v1")),
        ("any_engine", ("sglang", NOWHERE)),
    ],
)
def test_a_server_that_is_not_there(name, arguments):
    ended = run(name, *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert f"no connection to {NOWHERE}" in ended.stderr
    assert "Is the server up?" in ended.stderr


@pytest.mark.parametrize("arguments", [("docs", "What is a stage?"), ("examples/museum", "Is there a café?")])
def test_a_recording_knows_no_other_question(arguments):
    ended = run("research", *arguments)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "was not recorded with this request" in ended.stderr


def test_a_typed_program_for_any_engine_has_thirty_lines():
    source = (ROOT / "examples" / "any_engine.py").read_text("utf-8")
    assert len(list(filter(None, source.splitlines()))) <= 30


def test_nested_arithmetic():
    assert "33 * 5 = 165\n165 (right)" in printed("nested_arithmetic")


@pytest.mark.local
class TestOnNano:
    """The model that comes with the library."""

    def test_countdown(self):
        assert "1.1 starts: " in printed("countdown", "countdown 4 9 24 37")

    def test_custom_policy(self):
        assert "round 1: " in printed("custom_policy")

    def test_review_plans(self):
        ended = run("review_plans", "countdown 4 9 24 37", input="\n")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "Numbers to drop" in ended.stdout
        assert ", 0 of " in ended.stdout

    def test_batch(self, tmp_path):
        out = tmp_path / "runs.jsonl"
        assert "5 solved, 0 were done before" in printed("batch", "examples/tasks.jsonl", out)
        assert len(out.read_text("utf-8").splitlines()) == 5

    def test_compare_policies(self):
        assert printed("compare_policies", "countdown 4 24 28 16").count(" of 1 ") == len(BUILT_IN)

    def test_fastapi_app(self):
        port = free_port()
        body = json.dumps({"task": "countdown 4 9 24 37"}).encode()
        headers = {"Content-Type": "application/json"}
        command = [sys.executable, "examples/fastapi_app.py", str(port)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as app:
            try:
                assert app.stderr is not None
                assert any("Uvicorn running" in line for line in app.stderr)
                request = Request(f"http://127.0.0.1:{port}/stream", data=body, headers=headers)
                with urlopen(request, timeout=120) as answer:
                    kinds = [json.loads(line)["kind"] for line in answer]
                assert (kinds[0], kinds[-1]) == ("run_started", "run_finished")
            finally:
                app.terminate()
