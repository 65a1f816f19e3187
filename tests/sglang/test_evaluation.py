"""``sprint-finetune evaluate --engine sglang``, as a user calls it."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from sprint_agents.engines.sglang import SGLangServer
from sprint_finetune.cli.commands import app

CHECKER = "def is_short(case, answer):\n    return len(answer) < case.row['longest']\n"


def test_a_published_file_is_solved_once(server: SGLangServer, tmp_path: Path) -> None:
    source, checks, out = tmp_path / "countdown.jsonl", tmp_path / "checks.py", tmp_path / "out"
    source.write_text(json.dumps({"nums": [25, 7, 3], "target": 46, "longest": 5}) + "\n")
    checks.write_text(CHECKER)

    def evaluate(*options: str) -> Result:
        command = ["evaluate", str(source), "--engine", "sglang", "--url", server.url, "--out", str(out)]
        return CliRunner().invoke(app, [*command, "--checker", f"{checks}:is_short", *options], catch_exceptions=False)

    assert evaluate().exit_code == 0
    written = (out / "outcomes.jsonl").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["method"] for line in lines] == ["sequential", "interleaved"]
    assert all(line["answer"] and line["correct"] is False and line["seconds"] > 0 for line in lines)
    assert lines[1]["parallel_tokens"] > 0
    assert evaluate().exit_code == 0  # in a new engine, which has to ask for the model's name again
    assert (out / "outcomes.jsonl").read_text() == written
    assert "Changed since: limits." in evaluate("--plan-tokens", "50").stderr
