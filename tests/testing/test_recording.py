"""A recording replays what a model wrote, for the same requests and no others."""

import asyncio
from pathlib import Path

import pytest

from sprint_agents import Answer, Budget, Executor, Plan, Planner, Run, Sprint
from sprint_agents.context import Context
from sprint_agents.errors import BudgetExceeded, ConfigurationError, UnsupportedTask
from sprint_agents.testing import FakeEngine, Latency, RecordedEngine, Recording, RecordingEngine, run_virtual
from sprint_agents.testing.contract import EngineContract, complete, request_of

REPLIES = {"first half": ["ten", "10"], "second half": "32", "<think>": "so\n</think>\n<Final_answer>42</Final_answer>"}
ABOUT = "a scripted model"


async def halves(planning):
    yield Plan.of("sum the first half", "sum the second half")
    stage = yield planning.ask("chain")
    yield Answer(value=stage.answer)


def sprint(engine, **options) -> Sprint[int, int]:
    return Sprint(engine, policy=halves, planner=Planner(int), executor=Executor(int), **options)


@pytest.fixture
def recorded() -> tuple[Run[int, int], Recording]:
    engine = RecordingEngine(FakeEngine(REPLIES))
    return sprint(engine).run_sync("the list"), engine.recording(about=ABOUT)


def test_a_run_is_replayed_from_a_file(recorded: tuple[Run[int, int], Recording], tmp_path: Path) -> None:
    run, recording = recorded
    recording.save(tmp_path / "run.json")
    engine = RecordedEngine(tmp_path / "run.json")
    again = sprint(engine).run_sync("the list")
    assert engine.name == f"recorded:{ABOUT}"
    assert ABOUT in engine.recording.notice
    assert (again.answer, again.transcript) == (42, run.transcript)
    assert again.usage.total_tokens == run.usage.total_tokens
    assert again.usage.retries == 1


def test_a_recording_is_replayed_as_often_as_it_is_asked_for(recorded: tuple[Run[int, int], Recording]) -> None:
    engine = RecordedEngine(recorded[1])
    assert [sprint(engine).run_sync("the list").answer for _ in range(3)] == [42, 42, 42]


def test_another_request_was_not_recorded(recorded: tuple[Run[int, int], Recording]) -> None:
    with pytest.raises(UnsupportedTask, match="a scripted model was not recorded with this request"):
        sprint(RecordedEngine(recorded[1])).run_sync("another list")


def test_a_budget_holds_in_a_replay(recorded: tuple[Run[int, int], Recording]) -> None:
    with pytest.raises(BudgetExceeded) as raised:
        sprint(RecordedEngine(recorded[1]), budget=Budget(tokens=2)).run_sync("the list")
    assert raised.value.run is not None
    assert raised.value.run.usage.total_tokens <= 2


def test_a_completion_that_reached_its_limit_does_so_again() -> None:
    async def ask(engine, limit: int):
        request = request_of(Context().extend(await engine.encode("Count"), "Count"), max_tokens=limit)
        return await complete(engine, request)

    engine = RecordingEngine(FakeEngine("one two three four"))
    asyncio.run(ask(engine, 2))
    for limit, text in ((100, "one two"), (1, "one")):
        replayed = asyncio.run(ask(RecordedEngine(engine.recording(about=ABOUT)), limit))
        assert (replayed.text, replayed.finish.reason) == (text, "length")


def test_a_replay_can_be_watched(recorded: tuple[Run[int, int], Recording]) -> None:
    run = run_virtual(sprint(RecordedEngine(recorded[1], latency=Latency(token=1))).run("the list"))
    assert run.usage.seconds > 3


def test_equal_contexts_are_answered_in_order() -> None:
    async def ask(engine, count: int) -> list[str]:
        request = request_of(Context().extend(await engine.encode("Go"), "Go"))
        return [(await complete(engine, request)).text for _ in range(count)]

    engine = RecordingEngine(FakeEngine(["one", "two"]))
    assert asyncio.run(ask(engine, 2)) == ["one", "two"]
    assert asyncio.run(ask(RecordedEngine(engine.recording(about=ABOUT)), 3)) == ["one", "two", "two"]


def test_a_file_that_is_not_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with pytest.raises(ConfigurationError, match="cannot be read as a recording"):
        RecordedEngine(path)
    path.write_text("{}")
    with pytest.raises(ConfigurationError, match="cannot be read as a recording"):
        RecordedEngine(path)


class TestRecordingEngine(EngineContract):
    async def make_engine(self) -> RecordingEngine:
        return RecordingEngine(FakeEngine("50 + 25 = 75\n75 + 7 = 82\n" * 40))
