"""Journals survive: any type of result, other line ends, damage, two processes at once, and changed settings."""

import asyncio
import json
import multiprocessing
import os
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, field_validator

from sprint_agents import Answer, Executor, Plan, Planner, Sprint
from sprint_agents.errors import JournalError
from sprint_agents.policies import BUILT_IN, self_consistency
from sprint_agents.testing import FakeEngine, run_virtual

from .test_records import PLAN, SITUATIONS, Aliased, Identified, Login, contents, engine_for

TWO_STAGES = {
    "": PLAN,
    "<execution_1.": "4",
    "</Execution_1>": PLAN.replace("_1", "_2"),
    "<execution_2.": "5",
    "</Execution_2>": r"<Final_answer>\boxed{6}</Final_answer>",
}


def run(sprint: Sprint[Any, Any], path: Path, task: str = "question") -> Any:
    return run_virtual(sprint.run(task, journal=path))


def written(path: Path, **settings: Any) -> FakeEngine:
    """An engine, after a run in two stages on it that wrote the journal ``path``."""
    engine = FakeEngine(TWO_STAGES)
    run(Sprint(engine, **settings), path)
    return engine


class RaisesOnComparison(BaseModel):
    """Compares as a record with an array in it does."""

    count: int

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")


class NeverEqual(BaseModel):
    count: int

    def __eq__(self, other: object) -> bool:
        return False


class Unreadable(NeverEqual):
    def __repr__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("kind", [RaisesOnComparison, NeverEqual, Unreadable])
def test_values_that_cannot_be_compared_are_read_again(kind: Any, tmp_path: Path) -> None:
    async def policy(planning):
        stage = yield Plan.of("count")
        yield Answer(value=[(type(value), value.count) for value in stage.results])

    sprint = Sprint(FakeEngine('{"count": 3}'), policy=policy, planner=Planner(list), executor=Executor(kind))
    for _ in range(2):
        assert run(sprint, tmp_path / "run.jsonl").answer == [(kind, 3)]


@pytest.mark.parametrize(("kind", "text"), SITUATIONS)
def test_a_resumed_run_has_equal_values(kind: Any, text: str, tmp_path: Path) -> None:
    engine = engine_for(text)
    seen = []

    async def policy(planning):
        stage = yield planning.ask()
        seen.append(stage.results)
        while stage.answer is None:
            stage = yield planning.ask()
        yield Answer(value=stage.answer)

    sprint = Sprint(engine, policy=policy, planner=Planner(kind), executor=Executor(kind))
    first = run(sprint, tmp_path / "run.jsonl")
    requests = engine.account().started
    again = run(sprint, tmp_path / "run.jsonl")
    assert engine.account().started == requests
    masked = re.compile(r"seconds=[\d.e-]+")
    assert repr(seen[1]) == repr(seen[0])
    if kind is not Identified:  # an answer is read anew from what the planner wrote, and gets another id
        assert masked.sub("", contents(again)) == masked.sub("", contents(first))


@pytest.mark.reported("pydantic/pydantic#10824", "langchain-ai/langgraph#6718")
@pytest.mark.parametrize(("dialect", "text"), [("json", '{"result": {"from": "Oslo"}}'), ("tags", '{"from": "Oslo"}')])
def test_results_in_either_dialect(dialect: Any, text: str, tmp_path: Path) -> None:
    async def policy(planning):
        stage = yield Plan.of("one")
        yield Answer(value=stage.results[0].from_)

    engine = FakeEngine(text)
    sprint = Sprint(engine, policy=policy, executor=Executor(Aliased), dialect=dialect)
    answers = [run(sprint, tmp_path / "run.jsonl").answer for _ in range(2)]
    assert answers == ["Oslo", "Oslo"]
    assert engine.account().started == 1


@pytest.mark.reported("langchain-ai/langgraph#1873")
@pytest.mark.parametrize("nested", ["sprint", "policy"])
def test_results_of_nested_runs(nested: str, tmp_path: Path) -> None:
    login = '{"user": "a", "password": "hunter2"}'
    engine = FakeEngine(f"<Final_answer>{login}</Final_answer>" if nested == "sprint" else f"{login}</execution_1.1>")

    async def ask(planning):
        stage = yield planning.ask("answer")
        yield Answer(value=stage.answer)

    async def policy(planning):
        stage = yield Plan.of("one", nested=ask if nested == "policy" else None)
        yield Answer(value=stage.results[0].password.get_secret_value())

    inner = Sprint(engine, planner=Planner(Login))
    sprint = Sprint(engine, policy=policy, executor=inner if nested == "sprint" else Executor(Login))
    assert [run(sprint, tmp_path / "run.jsonl").answer for _ in range(2)] == ["hunter2", "hunter2"]
    assert engine.account().started == 1


@dataclass
class Place:
    name: str
    since: date


def place(subtask: Any) -> Place:
    return Place(subtask.prompt, date(2024, 2, 29))


class Service:
    async def __call__(self, subtask: Any) -> list[Place]:
        return [place(subtask)]


def undeclared(subtask):
    return {"name": subtask.prompt, "n": [1, 2.5, None, float("inf")]}


@pytest.mark.reported("langchain-ai/langgraph#9021")
@pytest.mark.parametrize("function", [place, Service(), undeclared, lambda subtask: subtask.prompt])
def test_results_of_functions(function: Any, tmp_path: Path) -> None:
    seen = []

    async def policy(planning):
        stage = yield Plan.of("Oslo", "Rome")
        seen.append(stage.results)
        yield Answer(value="done")

    sprint = Sprint(FakeEngine("unused"), policy=policy, executor=function)
    for _ in range(2):
        run(sprint, tmp_path / "run.jsonl")
    assert seen[1] == seen[0]


@pytest.mark.reported("langchain-ai/langgraph#1873", "OpenHands/software-agent-sdk#1671")
def test_what_a_journal_cannot_hold_is_refused_when_it_is_written(tmp_path: Path) -> None:
    def login(subtask):
        return {"password": SecretStr("hunter2")}

    async def policy(planning):
        yield Plan.of("one")
        yield Answer(value="done")

    with pytest.raises(JournalError, match=r"result of subtask 1\.1, a dict: it holds a secret") as caught:
        run(Sprint(FakeEngine("unused"), policy=policy, executor=login), tmp_path / "run.jsonl")
    assert caught.value.run.stages[0].results[0]["password"].get_secret_value() == "hunter2"
    assert run_virtual(Sprint(FakeEngine("unused"), policy=policy, executor=login).run("question")).answer == "done"


@pytest.mark.reported("NovaSky-AI/SkyThought#28")
@pytest.mark.parametrize(
    "value", [10**5000, [{"a": 10**5000}], json.loads("[" * 220 + "]" * 220)], ids=["number", "inside", "deep"]
)
def test_what_no_reader_of_json_accepts_is_refused_when_it_is_written(value: object, tmp_path: Path) -> None:
    async def policy(planning):
        yield Plan.of("one")
        yield Answer(value="done")

    sprint = Sprint(FakeEngine("unused"), policy=policy, executor=lambda subtask: value)
    with pytest.raises(JournalError, match=r"result of subtask 1\.1, an? (int|list): (number out of|recursion)"):
        run(sprint, tmp_path / "run.jsonl")
    finished = run_virtual(sprint.run("question"))
    back = type(finished).model_validate_json(finished.model_dump_json())
    assert back.stages[0].executions[0].value is None
    assert back.stages[0].executions[0].text == finished.stages[0].executions[0].text


MOST = 10


class Bounded(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def _bounded(cls, value: int) -> int:
        if value > MOST:
            raise ValueError("it is too large")
        return value


def test_a_value_that_no_longer_validates_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sprint = Sprint(engine_for('{"value": 4}'), executor=Executor(Bounded))
    run(sprint, tmp_path / "run.jsonl")
    monkeypatch.setitem(globals(), "MOST", 3)
    with pytest.raises(JournalError, match=r"stage 1 was written with another type of results .*too large"):
        run(sprint, tmp_path / "run.jsonl")


@pytest.mark.reported("elizaOS/eliza#30878", "axoviq-ai/synthadoc#269")
@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content[:-40].replace(b"\n", b"\r\n"),
        lambda content: content.replace(b"\n", b"\r\n")[:-1],
    ],
    ids=["CRLF", "BOM", "both", "torn", "half of a CRLF"],
)
def test_other_line_ends_and_a_byte_order_mark(edit: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    engine = written(path)
    path.write_bytes(edit(path.read_bytes()))
    requests = [engine.account().started]
    for _ in range(3):
        assert run(Sprint(engine), path).answer == "6"
        requests.append(engine.account().started)
    assert requests[1] - requests[0] <= 1
    assert requests[1:] == [requests[1]] * 3


@pytest.mark.reported("NousResearch/hermes-agent#109984")
@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:2], lines[2].replace(b'"text":"4"', b'"text":"7"'), *lines[3:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [lines[0], lines[1], lines[1], *lines[2:]],
        lambda lines: [lines[0], lines[1][:-9] + b"\n", *lines[2:]],
        lambda lines: [lines[0], b"\n", *lines[1:]],
        lambda lines: [*lines, lines[0]],
        lambda lines: lines[1:],
    ],
    ids=["changed", "lost", "swapped", "doubled", "cut", "blank", "two headers", "no header"],
)
def test_damage_before_the_end_is_found(damage: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    engine = written(path)
    damaged = b"".join(damage(path.read_bytes().splitlines(keepends=True)))
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match=r"is not a journal, or is damaged: .*; delete it to start again"):
        run(Sprint(engine), path)
    assert path.read_bytes() == damaged


def test_every_line_is_json(tmp_path: Path) -> None:
    written(tmp_path / "run.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"crc32", "record"}] * 12


def test_a_journal_of_the_first_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"journal":1,"run_id":"a","task":"question","policy":"interleaved","engine":"fake"}\n')
    with pytest.raises(JournalError, match="was written by an older version of this library"):
        run(Sprint(FakeEngine("unused")), path)


@pytest.mark.reported("NousResearch/hermes-agent#109984")
def test_two_runs_at_once_do_not_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    engine = FakeEngine(TWO_STAGES)

    async def both() -> list[Any]:
        runs = [Sprint(engine).run("question", journal=path) for _ in range(2)]
        return await asyncio.gather(*runs, return_exceptions=True)

    first, second = run_virtual(both())
    assert first.answer == "6"
    assert isinstance(second, JournalError)
    assert "is in use by another run" in str(second)
    assert run(Sprint(engine), path).stages == first.stages


@pytest.mark.parametrize("name", ["/dev/full", "/dev/null", "pipe"])
def test_a_device_or_a_pipe_is_no_journal(name: str, tmp_path: Path) -> None:
    path = tmp_path / name  # an absolute name is the path itself
    if name == "pipe":
        os.mkfifo(path)
    with pytest.raises(JournalError, match="is a device or a pipe: use the path of a file"):
        run(Sprint(FakeEngine(TWO_STAGES)), path)


def hold(path: Path, opened: Any, release: Any) -> None:
    """Run until ``release`` is set, with the journal open."""

    def wait(subtask: Any) -> str:
        opened.set()
        assert release.wait(60)
        return "done"

    Sprint(FakeEngine(TWO_STAGES), executor=wait).run_sync("question", journal=path)


@pytest.mark.reported("NousResearch/hermes-agent#109984")
def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    context = multiprocessing.get_context("spawn")
    opened, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, opened, release))
    process.start()
    try:
        assert opened.wait(60)
        with pytest.raises(JournalError, match="is in use by another run"):
            run(Sprint(FakeEngine(TWO_STAGES), executor=lambda subtask: "other"), path)
    finally:
        release.set()
        process.join()
    assert process.exitcode == 0


WORD = "before"


def helper() -> str:
    return "before"


def policy_with(ending: str, *, words: Any = ()) -> Any:
    async def policy(planning):
        stage = yield planning.ask()
        while stage.answer is None:
            stage = yield planning.ask()
        yield Answer(value=f"{stage.answer}{ending}{words}")

    return policy


def edited_policy() -> Any:
    async def policy(planning):
        stage = yield planning.ask()
        while stage.answer is None:
            stage = yield planning.ask("answer")
        yield Answer(value=f"{stage.answer}")

    return policy


def policy_with_global() -> Any:
    async def policy(planning):
        stage = yield planning.ask()
        yield Answer(value=f"{stage.answer}{WORD}{helper()}")

    return policy


def search(word: str) -> str:
    """Search."""
    return word


def find(word: str, limit: int = 3) -> str:
    """Search."""
    return word * limit


class Named(FakeEngine):
    @property
    def name(self) -> str:
        return "another"


JSON = {"dialect": "json"}
CHANGES = {
    "the policy's code": ({"policy": policy_with("")}, {"policy": edited_policy()}, "code of the policy"),
    "a value in the policy": ({"policy": policy_with("a")}, {"policy": policy_with("b")}, "code of the policy"),
    "a list in the policy": (
        {"policy": policy_with("", words=["a"])},
        {"policy": policy_with("", words=["a", "b"])},
        "code of the policy",
    ),
    "the policy's parameters": (
        {"policy": self_consistency(2)},
        {"policy": self_consistency(3)},
        "is the journal of policy",
    ),
    "the policy": ({}, {"policy": self_consistency()}, "is the journal of policy"),
    "the executor's type": ({}, {"executor": Executor(int)}, "executor's type"),
    "the planner's type": ({}, {"planner": Planner(int)}, "planner's type"),
    "the executor": ({}, {"executor": search}, "executor function, executor's instructions"),
    "the executor's function": ({"executor": search}, {"executor": helper}, "executor function"),
    "the executor's instructions": (
        {**JSON, "executor": Executor(instructions="Be quick.")},
        {**JSON, "executor": Executor(instructions="Be slow.")},
        "executor's instructions",
    ),
    "the planner's instructions": (
        {**JSON, "planner": Planner(instructions="Be quick.")},
        {**JSON, "planner": Planner(instructions="Be slow.")},
        "planner's instructions",
    ),
    "the tools": (
        {**JSON, "executor": Executor(tools=[search])},
        {**JSON, "executor": Executor(tools=[find])},
        "executor's tools",
    ),
    "the dialect": ({}, JSON, "dialect"),
    "the executor's engine": ({}, {"executor": Executor(engine=Named("4"))}, "executor's model"),
    "an inner sprint": (
        {"executor": Sprint(FakeEngine("4"))},
        {"executor": Sprint(FakeEngine("4"), planner=Planner(int))},
        "executor's planner's type",
    ),
}


@pytest.mark.reported("NousResearch/hermes-agent#109984")
@pytest.mark.parametrize(("before", "now", "changed"), CHANGES.values(), ids=CHANGES)
def test_a_changed_setting_is_refused(before: Any, now: Any, changed: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    engine = FakeEngine(lambda prompt: r"<Final_answer>\boxed{6}</Final_answer>")
    try:
        run(Sprint(engine, **before), path)
    except JournalError:
        raise
    except Exception:
        pass
    content, requests = path.read_bytes(), engine.account().started
    with pytest.raises(JournalError, match=changed):
        run(Sprint(engine, **now), path)
    assert engine.account().started == requests
    assert path.read_bytes() == content


@pytest.mark.reported("NousResearch/hermes-agent#109984")
@pytest.mark.parametrize(("name", "value"), [("WORD", "after"), ("helper", lambda: "after")])
def test_a_changed_part_of_the_policys_module_is_refused(
    name: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine("<Final_answer>6</Final_answer>")
    run(Sprint(engine, policy=policy_with_global()), tmp_path / "run.jsonl")
    run(Sprint(engine, policy=policy_with_global()), tmp_path / "run.jsonl")
    monkeypatch.setitem(globals(), name, value)
    with pytest.raises(JournalError, match="code of the policy"):
        run(Sprint(engine, policy=policy_with_global()), tmp_path / "run.jsonl")


def write_journals(folder: Path) -> None:
    for name in BUILT_IN:
        run_virtual(Sprint(FakeEngine("<Final_answer>6</Final_answer>"), policy=name).run("q", journal=folder / name))


@pytest.mark.reported("NousResearch/hermes-agent#109984")
def test_another_process_describes_policies_alike(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    process = multiprocessing.get_context("spawn").Process(target=write_journals, args=(tmp_path / "there",))
    process.start()
    write_journals(tmp_path / "here")
    process.join()
    for name in BUILT_IN:
        headers = [(tmp_path / where / name).read_text().splitlines()[0] for where in ("there", "here")]
        there, here = (json.loads(header)["record"]["settings"] for header in headers)
        assert there == here


def test_large_and_cyclic_values_in_a_policy_cost_little(tmp_path: Path) -> None:
    table: list[Any] = [[number] for number in range(200_000)]
    table.append(table)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    engine = FakeEngine("<Final_answer>6</Final_answer>")
    for _ in range(2):
        assert run(Sprint(engine, policy=policy_for(table, deep)), tmp_path / "run.jsonl").answer == "6"


def policy_for(table: list[Any], deep: list[Any]) -> Any:
    async def policy(planning):
        stage = yield planning.ask()
        assert table
        assert deep
        yield Answer(value=stage.answer)

    return policy
