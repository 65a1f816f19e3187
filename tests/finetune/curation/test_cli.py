"""`sprint-finetune curate` and `dag`."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sprint_agents.testing import FakeEngine
from sprint_finetune.cli.commands import app

from .counting_server import CountingModel, counting

OPENAI = ("SOURCE", "--by", "openai", "--url", "http://127.0.0.1:9/v1", "--model", "m")


@pytest.fixture
def call() -> Callable[..., Result]:
    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    return invoke


@pytest.fixture
def source(tmp_path: Path, make_trace) -> Path:
    path = tmp_path / "traces.jsonl"
    traces = [make_trace("t0"), make_trace("t1", problem="How many now?"), make_trace("t2", trace="No.\nNo answer.")]
    path.write_text("".join(trace.model_dump_json() + "\n" for trace in traces) + "nonsense\n")
    return path


def test_a_file_is_curated_and_a_graph_drawn(call, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("curate", source, "--out", out, "--eval-share", 0)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(
        "4 traces: 2 samples (2 to train, 0 to evaluate)\n26 lines kept, sequential tokens "
    )
    assert "no_answer" in result.stdout
    assert "unreadable" in result.stdout
    assert f"report: {out / 'report.html'}" in result.stdout
    assert len((out / "train.jsonl").read_text().splitlines()) == 2
    assert call("curate", source, "--out", out, "--eval-share", 0).stdout == result.stdout
    assert call("dag", out, "t1", "--out", tmp_path / "t1.html").exit_code == 0
    assert "How many now?" in (tmp_path / "t1.html").read_text()


def test_columns_and_limit(call, tmp_path: Path, make_trace) -> None:
    trace = make_trace("t")
    line = json.dumps({"question": trace.problem, "cot": trace.trace, "gold": trace.answer})
    (tmp_path / "cot.jsonl").write_text(f"{line}\n{line}\n")
    columns = ("--problem", "question", "--trace", "cot", "--answer", "gold")
    result = call("curate", tmp_path / "cot.jsonl", "--out", tmp_path / "out", "--limit", 1, *columns)
    assert result.stdout.startswith("1 traces: 1 samples")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.jsonl",), "none.jsonl cannot be read"),
        (("SOURCE", "--by", "openai"), "needs the server's address: pass --url"),
        (("SOURCE", "--by", "openai", "--url", "http://127.0.0.1:9/v1"), "needs the model's name"),
        (("SOURCE", "--by", "sglang", "--url", "http://127.0.0.1:9", "--model", "m"), "leave out --model"),
        (("SOURCE", "--model", "m"), "rules need no model"),
        (("SOURCE", "--dry-run"), "rules need no model"),
        ((*OPENAI, "--dollar-budget", "$2"), "pass --price IN/OUT"),
        ((*OPENAI, "--dag-model", "n", "--price", "1/2", "--dollar-budget", "2"), "pass --dag-price IN/OUT"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    call, source: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    given = [str(source) if argument == "SOURCE" else argument for argument in arguments]
    result = call("curate", *given, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ConfigurationError: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_graph_of_nothing_is_an_error_that_says_why(call, source: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "page.html"
    assert "is not the output folder of a curation" in call("dag", tmp_path, "t0", "--out", page).stderr
    call("curate", source, "--out", out)
    for trace_id, message in (
        ("t9", "has no trace 't9': its ids are 't0', 't1', 't2', …"),
        ("t2", "'t2' was not packed"),
        ("line-4", "'line-4' was rejected while reading: this is not valid JSON"),
    ):
        result = call("dag", out, trace_id, "--out", page)
        assert (result.exit_code, message in result.stderr) == (2, True)
    assert not page.exists()


def test_a_model_on_a_server_finds_steps(call, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The options reach the engine. Other tests cover its answers."""
    opened: list[dict[str, object]] = []

    class Server(FakeEngine):
        def __init__(self, url: str, **options: object) -> None:
            super().__init__("nothing of use")
            opened.append({"url": url, **options})

    monkeypatch.setattr("sprint_agents.engines.OpenAIEngine", Server, raising=False)
    monkeypatch.setenv("MY_KEY", "secret")
    options = ("--by", "openai", "--url", "http://127.0.0.1:9/v1", "--model", "large", "--dag-model", "small")
    result = call("curate", source, "--out", tmp_path / "out", *options, "--api-key-env", "MY_KEY")
    assert result.exit_code == 0
    assert "not_json" in result.stdout
    assert [(one["model"], one["api_key"]) for one in opened] == [("large", "secret"), ("small", "secret")]


def test_a_dry_run_says_what_a_model_would_cost_and_sends_nothing(call, source: Path, tmp_path: Path) -> None:
    model = ("--by", "openai", "--url", "http://127.0.0.1:9/v1", "--model", "large")
    result = call("curate", source, "--out", tmp_path / "out", *model, "--dry-run", "--price", "100/1000")
    assert (result.exit_code, result.stderr, (tmp_path / "out").exists()) == (0, "", False)
    first, steps, dags, most = result.stdout.splitlines()
    assert first == "4 traces, of which 2 would be sent: nothing was sent"
    assert steps.startswith("steps (openai:large): about 2 requests, ")
    assert dags.startswith("dependencies (openai:large): about 2 requests, ")
    assert most.startswith("at most, with repairs and answers of 8,000 tokens: 8 requests, ")
    assert all(re.search(r", \$\d+\.\d\d$", line) for line in (steps, dags, most))
    without = call("curate", source, "--out", tmp_path / "out", *model, "--dry-run").stdout
    assert "$" not in without
    assert "a price is unknown: pass --price" in without


def test_a_budget_ends_the_command_and_a_larger_one_continues(call, source: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", CountingModel()
    with counting(model) as server:
        options = ("--by", "openai", "--url", server.base, "--model", "m", "--max-share", 9, "--max-tokens", 500)
        options += ("--requests-per-minute", 100, "--tokens-per-minute", 100_000)
        stopped = call("curate", source, "--out", out, *options, "--token-budget", 3_000)
        assert stopped.exit_code == 1
        assert "BudgetExceeded: the budget of 3,000 tokens" in stopped.stderr
        assert 0 < len(model.asked) < 6
        asked = len(model.asked)
        assert call("curate", source, "--out", out, *options, "--dollar-budget", 9, "--price", "1/1").exit_code == 0
    assert len(model.asked) == len({*model.asked}) == 6 > asked  # two for t0, four for t1, none for the others


@pytest.mark.parametrize("wrong", [("--price", "3"), ("--price", "a/b"), ("--dollar-budget", "much")])
def test_an_amount_that_is_no_number_is_refused(call, source: Path, tmp_path: Path, wrong: tuple[str, str]) -> None:
    given = [str(source) if argument == "SOURCE" else argument for argument in OPENAI]
    result = call("curate", *given, "--out", tmp_path / "out", *wrong)
    assert result.exit_code == 2
    assert wrong[1] in result.stderr


def test_no_problem_is_written_twice(call, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    assert call("traces", "multiplication", "--count", 2000, "--seed", 1, "--out", path).exit_code == 0
    assert len({json.loads(line)["problem"] for line in path.read_text().splitlines()}) == 2000


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("countdown", ("--unsolvable", 0.2)),
        ("arithmetic", ("--slips", 0.1)),
        ("multiplication", ("--split", "held_out")),
    ],
)
def test_traces_of_our_own_tasks_are_written_and_curated(
    call, tmp_path: Path, task: str, options: tuple[object, ...]
) -> None:
    path, out = tmp_path / "traces.jsonl", tmp_path / "out"
    written = ("traces", task, "--count", 3, "--seed", 5, "--out", path, *options)
    result = call(*written)
    assert (result.exit_code, result.output) == (0, "")
    lines = path.read_text()
    assert [sorted(json.loads(line)) for line in lines.splitlines()] == [["answer", "problem", "trace"]] * 3
    call(*written)
    assert path.read_text() == lines  # depends only on the seed
    style = ("--no-separators", "--no-basis", "--no-breaks")
    result = call("curate", path, "--out", out, *style, "--ratio", 1, "--width", 0, "--max-share", 9)
    assert result.stdout.startswith("3 traces: 3 samples")
    assert "violations" not in result.stdout
    for line in [*(out / "train.jsonl").read_text().splitlines(), *(out / "eval.jsonl").read_text().splitlines()]:
        text = json.loads(line)["text"]
        assert not {"-----", "Based"} & {*text.split()}
        assert "<Plan_1>\n" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("countdown", "--slips", "0.5", "--out", "t.jsonl"), "a countdown search has no slips"),
        (("arithmetic", "--unsolvable", "0.5", "--out", "t.jsonl"), "--unsolvable is for countdown"),
        (("arithmetic", "--count", "1", "--out", "none/t.jsonl"), "cannot be written"),
    ],
)
def test_traces_that_cannot_be_written_are_an_error(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("traces", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not [*tmp_path.iterdir()]
