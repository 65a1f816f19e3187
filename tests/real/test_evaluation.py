"""``sprint-finetune evaluate`` with a real instruct model, on each engine that its command line can name."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from environments.real.llama_cpp import LlamaCppServer
from sprint_finetune.cli.commands import app

LIMITS = "--max-stages 2 --plan-tokens 60 --execution-tokens 24 --chain-tokens 24 --answer-tokens 24 --max-tokens 160"
GSM8K = {"question": "Ann has 3 pens and buys 4. How many has she?", "answer": "3+4=<<3+4=7>>7\n#### 7"}
CHECKER = "def is_gsm8k(case, answer):\n    return case.row['answer'].endswith('#### 7') and isinstance(answer, str)\n"


@pytest.fixture(params=["local", "openai", "pydantic-ai"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    """The options that name the model: embedded, on llama.cpp's server, and there as a hosted model is called."""
    if request.param == "local":
        return ("--engine", "local", "--model", str(request.getfixturevalue("checkpoint")))
    server: LlamaCppServer = request.getfixturevalue("llama_cpp")
    if request.param == "openai":
        return ("--engine", "openai", "--url", f"{server.url}/v1", "--model", server.name)
    pytest.importorskip("pydantic_ai")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return ("--engine", "pydantic-ai", "--model", f"openai-chat:{server.name}")


def test_a_published_file_is_solved_once(engine: Sequence[str], tmp_path: Path) -> None:
    source, checks, out = tmp_path / "gsm8k.jsonl", tmp_path / "checks.py", tmp_path / "out"
    source.write_text(f"{json.dumps(GSM8K)}\nnonsense\n")
    checks.write_text(CHECKER)
    command = ["evaluate", str(source), *engine, *LIMITS.split(), "--checker", f"{checks}:is_gsm8k", "--out", str(out)]
    for _ in range(2):
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        assert done.exit_code == 0
        assert "1 cases (gsm8k 1); 1 rows left out (unreadable 1)" in done.stderr
    lines = [json.loads(line) for line in (out / "outcomes.jsonl").read_text().splitlines()]
    assert [(line["method"], line["case"]) for line in lines] == [
        ("sequential", "gsm8k-1"),
        ("interleaved", "gsm8k-1"),
    ]
    assert all(0 < line["total_tokens"] <= 160 and line["seconds"] > 0 for line in lines)
    assert all(line["correct"] is (line["answer"] is not None) for line in lines)
    assert json.loads((out / "table.json").read_text())["cases"]["formats"] == {"gsm8k": 1}
