"""Every example on a scripted engine: how to test an application without a model."""

import ast
import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path
from sprint_agents.policies import BUILT_IN
from sprint_agents.testing import FakeEngine, Prompt, Reply

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
PLAN = "<Plan_1>\n<prompt_1.1>4 + 9</prompt_1.1>\n<prompt_1.2>37 - 24</prompt_1.2>\n</Plan_1>"
CHAIN = "let me see\n</think>\n"
TASK = "countdown 4 9 24 37"


def final(value):
    return f"<Final_answer>\n\\boxed{{{value}}}\n</Final_answer>"


def load(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def nano(prompt: Prompt) -> str:
    """Reply as a model of the tag dialect would, under any policy."""
    end = prompt.tail(40)
    if end.endswith("<think>\n"):
        return CHAIN + final("4+9+24")
    if "<execution_" in end:
        return "13\n" + end[end.rindex("<execution_") :].strip().replace("<", "</")
    return final("4+9+24") if "execution" in prompt.text or end.endswith("<Final_answer>\n") else PLAN


def nano_engine() -> FakeEngine:
    """An engine with sprint-nano's manifest, so that its tasks are understood and checked."""
    return FakeEngine(nano, manifest=Manifest.load(nano_path()))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path):
    source = path.read_text()
    assert len(source.splitlines()) < 100
    assert f"python examples/{path.name}" in ast.get_docstring(ast.parse(source))
    assert f"[{path.name}]({path.name})" in (FOLDER / "README.md").read_text()


def test_countdown(monkeypatch, capsys):
    run = asyncio.run(load("countdown", monkeypatch).main(nano_engine(), task=TASK))
    assert (run.answer, run.verified) == ("4+9+24", True)
    printed = capsys.readouterr().out
    assert "1.1 starts: 4 + 9" in printed
    assert "1.2 ends" in printed
    assert "(right)" in printed


def test_nested_arithmetic(monkeypatch, capsys):
    run = asyncio.run(load("nested_arithmetic", monkeypatch).main(expression="[(2 - 7) * 2 - 5] * (9 - 4) + (9 - 4)"))
    assert (run.answer, run.verified) == (-70, True)
    assert [stage.results for stage in run.stages] == [[-5, 5, 5], [-15], [-70]]
    assert "-5 * 2 - 5 = -15" in capsys.readouterr().out


def test_a_policy_that_widens(monkeypatch, capsys):
    wrong, right = final("4+9"), final("4+9+24")
    engine = FakeEngine([wrong, wrong, Reply(right)])
    run = asyncio.run(load("custom_policy", monkeypatch).main(engine, task=TASK))
    assert run.verified
    assert [len(stage.executions) for stage in run.stages] == [1, 2]
    assert "round 1: 4+9\nround 2: 4+9, 4+9+24" in capsys.readouterr().out


def test_plans_that_someone_reviews(monkeypatch, capsys):
    replies = iter(["1", "", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(replies))
    run = asyncio.run(load("review_plans", monkeypatch).main(nano_engine(), task=TASK))
    assert [execution.prompt for execution in run.stages[0].executions] == ["37 - 24"]
    assert "1. 4 + 9\n  2. 37 - 24\n" in capsys.readouterr().out


def test_all_policies_on_the_same_problems(monkeypatch, capsys):
    solved = asyncio.run(load("compare_policies", monkeypatch).main(nano_engine(), tasks=[TASK, TASK]))
    assert solved.keys() == BUILT_IN.keys()
    assert all([run.verified for run in runs] == [True, True] for runs in solved.values())
    assert capsys.readouterr().out.count("2 of 2") == len(BUILT_IN)


def test_a_batch_resumes(monkeypatch, tmp_path, capsys):
    batch = load("batch", monkeypatch)
    source, out = tmp_path / "tasks.jsonl", tmp_path / "runs.jsonl"
    source.write_text("".join(json.dumps({"id": name, "task": TASK}) + "\n" for name in "abc"))
    first = asyncio.run(batch.main(nano_engine(), source=source, out=out))
    assert sorted(line.id for line in first) == ["a", "b", "c"]
    out.write_text("".join(out.read_text().splitlines(keepends=True)[:2]))
    (again,) = asyncio.run(batch.main(nano_engine(), source=source, out=out))
    assert again.run.answer == "4+9+24"
    assert {json.loads(line)["id"] for line in out.read_text().splitlines()} == {"a", "b", "c"}
    assert "1 solved, 2 were done before" in capsys.readouterr().out


def test_research_drops_quotes_that_are_not_in_their_document(monkeypatch, capsys, tmp_path):
    for name, text in {"doors.md": "There are\nred  doors.", "walls.md": "Walls are grey."}.items():
        (tmp_path / name).write_text(text)
    replies = {
        "executor 1.1": json.dumps({"result": {"quote": "There are red doors."}}),
        "executor 1.2": json.dumps({"result": {"quote": "Walls are blue."}}),
        "planner, stage 2": json.dumps({"answer": "Doors are red."}),
    }
    research = load("research", monkeypatch)
    run = asyncio.run(research.main(FakeEngine(replies), folder=tmp_path, question="What colour?"))
    assert run.answer == "Doors are red."
    printed = capsys.readouterr().out
    assert printed == 'Doors are red.\n- doors.md: "There are red doors."\n- walls.md: no quote that is in it\n'
    assert "Walls are blue" not in run.transcript


def test_code_review(monkeypatch, capsys, tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    git("init")
    for text in ("one", "two"):
        for name in ("a.py", "b.py"):
            (tmp_path / name).write_text(f"value = '{text}'\n")
        git("add", ".")
        git("commit", "-m", text)
    replies = {
        "executor 1.1": json.dumps({"result": {"line": 1, "problem": "wrong"}}),
        "executor 1.2": json.dumps({"result": {"line": 7, "problem": "slow"}}),
        "planner, stage 2": json.dumps({"answer": "request changes"}),
    }
    diff = git("diff", "HEAD~1").stdout
    run = asyncio.run(load("code_review", monkeypatch).main(FakeEngine(replies), diff=diff))
    assert "1. value = 'two'" in run.stages[0].executions[0].prompt
    assert capsys.readouterr().out == "a.py: value = 'two'  # wrong\nb.py: no valid comment\nrequest changes\n"


def test_tests_are_written_until_they_pass(monkeypatch, capsys, tmp_path):
    module = tmp_path / "sums.py"
    module.write_text("from math import sqrt\n\n\ndef plus(a, b):\n    return a + b\n")
    replies = [json.dumps({"result": {"arguments": [1, 2], "result": result}}) for result in (4, 3)]
    run = asyncio.run(load("write_tests", monkeypatch).main(FakeEngine(replies), module=module))
    assert "plus(1, 2) is 3, not 4." in run.stages[1].executions[0].prompt
    assert capsys.readouterr().out == run.answer + "\n"
    (tmp_path / "test_sums.py").write_text(run.answer)
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=tmp_path, check=True)


def test_an_application_answers_and_streams(monkeypatch):
    pytest.importorskip("fastapi")
    httpx2 = pytest.importorskip("httpx2")

    async def use():
        app = load("fastapi_app", monkeypatch).main(nano_engine())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            solved = await client.post("/solve", json={"task": TASK})
            streamed = await client.post("/stream", json={"task": TASK})
            return solved, streamed, await client.post("/solve", json={"task": " "})

    solved, streamed, empty = asyncio.run(use())
    assert (solved.json()["answer"], solved.json()["verified"]) == ("4+9+24", True)
    kinds = [json.loads(line)["kind"] for line in streamed.text.splitlines()]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_finished")
    assert "subtask_started" in kinds
    assert empty.status_code == 422


def test_a_client_that_goes_away_ends_its_run(monkeypatch):
    pytest.importorskip("fastapi")
    engine = FakeEngine(lambda prompt: Reply(nano(prompt), delay=3600 if "<execution_" in prompt.tail(40) else 0))
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/stream", "query_string": b"", "headers": headers}

    async def use():
        started = asyncio.Event()
        requests = [{"type": "http.request", "body": json.dumps({"task": TASK}).encode()}]

        async def receive():
            if requests:
                return requests.pop()
            await started.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if b"subtask_started" in message.get("body", b""):
                started.set()

        await load("fastapi_app", monkeypatch).main(engine)(scope, receive, send)

    asyncio.run(use())
    account = engine.account()
    assert account.running == 0
    assert account.aborted >= 1
