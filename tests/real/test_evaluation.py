"""``sprint-finetune evaluate`` with a real instruct model, on a server with OpenAI's API."""

import json
from pathlib import Path

from typer.testing import CliRunner

from environments.real.llama_cpp import LlamaCppServer
from sprint_finetune.cli.commands import app

LIMITS = "--max-stages 2 --plan-tokens 60 --execution-tokens 24 --chain-tokens 24 --answer-tokens 24 --max-tokens 160"
GSM8K = {"question": "Ann has 3 pens and buys 4. How many has she?", "answer": "3+4=<<3+4=7>>7\n#### 7"}


def test_a_server_solves_a_published_file_once(llama_cpp: LlamaCppServer, tmp_path: Path) -> None:
    engine = ["--engine", "openai", "--url", f"{llama_cpp.url}/v1", "--model", llama_cpp.name]
    source, out = tmp_path / "gsm8k.jsonl", tmp_path / "out"
    source.write_text(f"{json.dumps(GSM8K)}\nnonsense\n")
    command = ["evaluate", str(source), *engine, *LIMITS.split(), "--out", str(out)]
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
    assert json.loads((out / "table.json").read_text())["cases"]["formats"] == {"gsm8k": 1}
