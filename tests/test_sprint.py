import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from sprint_agents import Executor, Planner, Sprint
from sprint_agents.errors import ConfigurationError, UnsupportedTask
from sprint_agents.events import Event, RunFinished, RunStarted
from sprint_agents.manifest import Manifest
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual


def answering(text):
    return lambda prompt: f"<Final_answer>\n\\boxed{{{text}}}\n</Final_answer>"


def test_map_gives_every_run_as_it_finishes_and_raises_for_none():
    def respond(prompt):
        number = int(prompt.text.split()[1])
        fault = Fault.drop() if number == 3 else None
        return Reply(answering(number)(prompt), delay=10 - number, fault=fault)

    async def main():
        async with Sprint(FakeEngine(respond), planner=Planner(int)).map(f"task {n}" for n in range(6)) as runs:
            return [run async for run in runs]

    runs = run_virtual(main())
    assert [run.answer for run in runs if not run.error] == [5, 4, 2, 1, 0]
    assert [run.task for run in runs if run.error] == ["task 3"]


def test_map_keeps_to_its_concurrency_and_reads_tasks_as_needed():
    read = []

    def tasks():
        for number in range(100):
            read.append(number)
            yield f"task {number}"

    engine = FakeEngine(answering("x"), latency=Latency(token=1))

    async def main():
        async with Sprint(engine).map(tasks(), concurrency=4) as runs:
            async for _ in runs:
                break
        assert engine.account().running == 0

    run_virtual(main())
    assert engine.account().peak == 4
    assert len(read) < 12


def test_map_records_a_task_that_cannot_run():
    async def main():
        async with Sprint(FakeEngine(answering("x"))).map(["fine", "  "]) as runs:
            return [run async for run in runs]

    runs = asyncio.run(main())
    assert {run.task: run.error.type if run.error else None for run in runs} == {"fine": None, "  ": "UnsupportedTask"}


def test_map_resumes_each_task_from_its_journal(tmp_path):
    tasks, journals = ["a", "b", "a"], [tmp_path / f"{number}.jsonl" for number in range(3)]
    engine = FakeEngine(answering("x"))

    async def main():
        async with Sprint(engine).map(tasks, journals=journals) as runs:
            return {run.id async for run in runs}

    assert len(first := asyncio.run(main())) == 3
    assert asyncio.run(main()) == first
    assert engine.account().started == 3


def test_map_says_that_a_journal_is_missing(tmp_path):
    async def main():
        async with Sprint(FakeEngine(answering("x"))).map(["a", "b"], journals=[tmp_path / "one"]) as runs:
            assert (await anext(aiter(runs))).task == "a"
            await anext(aiter(runs))

    with pytest.raises(ConfigurationError, match="fewer journals"):
        asyncio.run(main())


def test_map_without_concurrency_is_a_mistake():
    with pytest.raises(ConfigurationError, match="concurrency is 0"):
        Sprint(FakeEngine(answering("x"))).map([], concurrency=0)


def test_stream_begins_and_ends_with_the_run():
    async def main():
        async with Sprint(FakeEngine(answering("x"))).stream("task") as events:
            return [event async for event in events]

    events = asyncio.run(main())
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert events[-1].run.answer == "x"


def test_one_sprint_serves_many_runs_at_once():
    async def main():
        sprint = Sprint(FakeEngine(lambda prompt: answering(prompt.text.strip()[-1])(prompt), latency=Latency(token=1)))
        runs = await asyncio.gather(*(sprint.run(f"task {n}") for n in range(9)))
        assert [run.answer for run in runs] == [str(n) for n in range(9)]
        assert len({run.id for run in runs}) == 9

    run_virtual(main())


def test_run_sync_works_again_and_again_and_teaches_inside_a_loop():
    sprint = Sprint(FakeEngine(answering("x")))
    assert sprint.run_sync("a").answer == sprint.run_sync("b").answer == "x"

    async def inside():
        sprint.run_sync("c")

    with pytest.raises(ConfigurationError, match=r"await sprint\.run"):
        asyncio.run(inside())


class Point(BaseModel):
    x: int
    y: int


@dataclass
class Pair:
    left: str
    right: str


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "81", 81),
        (float, "0.5", 0.5),
        (str, " as it is ", "as it is"),
        (bool, "true", True),
        (list[int], "[1, 2]", [1, 2]),
        (Point, '{"x": 1, "y": 2}', Point(x=1, y=2)),
        (Pair, '{"left": "a", "right": "b"}', Pair("a", "b")),
    ],
)
def test_words_become_the_declared_type(kind, text, value):
    assert Executor(kind).read(text) == value
    assert Planner(kind).accept(value) == value


MANIFEST = Manifest(
    model="tiny",
    temperature=0,
    question="Q: {task}\nA: ",
    tasks={"countdown": {"counts": [3, 4], "numbers": [1, 100], "targets": [10, 100]}},
)


def test_tasks_of_the_checkpoint_check_themselves_and_a_checker_comes_first():
    def verified(answer, task="countdown 3 7 25 46", **options):
        return Sprint(FakeEngine(answering(answer), manifest=MANIFEST), **options).run_sync(task).verified

    assert verified("25+7*3") is True
    assert verified("25+7+3") is False
    assert verified("x", checker=lambda answer: answer == "x") is True


@pytest.mark.parametrize("manifest", [None, Manifest(model="general", question="Q: {task}\nA: ")])
@pytest.mark.parametrize("task", ["use 3 and 7 to reach 21", " \tcountdown 3 7 25 46\n\n", "Multiply 3 by 4.", "2+2"])
def test_any_other_model_gets_the_task_byte_for_byte_and_checks_nothing(task, manifest):
    engine = FakeEngine(answering("3*7"), manifest=manifest)
    run = Sprint(engine).run_sync(task)
    question = manifest.question if manifest else "{task}\n"
    (request,) = engine.requests
    assert request.request.context.text == question.replace("{task}", task)
    assert (run.task, run.verified) == (task, None)
    assert Sprint(engine, checker=lambda answer: answer == "3*7").run_sync(task).verified is True


def test_the_manifest_gives_the_question_and_the_sampling():
    engine = FakeEngine(answering("25+7*3"), manifest=MANIFEST)
    run = Sprint(engine).run_sync("countdown 3 7 25 46")
    assert run.transcript.startswith("Q: Use 25, 7, 3 to make 46.\nA: <Final_answer>")
    assert run.task == "countdown 3 7 25 46"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("What is love?", "tiny understands countdown only.*countdown 3 7 25 50 79"),
        ("countdown 3 7 10", "3 or 4 numbers from 1 to 100, not on 3, 7"),
        ("countdown 3 7 250 10", "3 or 4 numbers from 1 to 100"),
        ("countdown 3 7 25 500", "targets from 10 to 100, not on 500"),
    ],
)
def test_a_small_model_says_what_it_does_not_understand(task, message):
    engine = FakeEngine(answering("x"), manifest=MANIFEST)
    with pytest.raises(UnsupportedTask, match=message):
        Sprint(engine).run_sync(task)
    assert engine.account().started == 0


class TestListeners:
    def test_hear_all_events_of_all_runs(self) -> None:
        heard: list[Event] = []
        sprint = Sprint(FakeEngine(lambda _: "<Final_answer>4</Final_answer>"), listeners=[heard.append])
        runs = [sprint.run_sync("2+2?"), sprint.run_sync("2+2?")]
        started = [event for event in heard if isinstance(event, RunStarted)]
        assert [event.run_id for event in started] == [run.id for run in runs]
        assert started[0].engine == sprint.engine.name
        assert isinstance(heard[-1], RunFinished)

    @pytest.mark.parametrize(
        "error", [LookupError(), SystemExit(2), asyncio.CancelledError(), BaseExceptionGroup("g", [SystemExit(2)])]
    )
    def test_one_that_raises_does_not_end_the_run_and_is_not_called_again(self, error: BaseException) -> None:
        heard: list[str] = []

        def broken(event: Event) -> None:
            heard.append(event.kind)
            raise error

        sprint = Sprint(FakeEngine(lambda _: "<Final_answer>4</Final_answer>"), listeners=[broken])
        assert sprint.run_sync("2+2?").answer == "4"
        assert heard == ["run_started"]

    @pytest.mark.parametrize("listener", [None, "print"])
    def test_what_cannot_be_called_is_refused(self, listener: Any) -> None:
        with pytest.raises(ConfigurationError, match="listener"):
            Sprint(FakeEngine([]), listeners=[listener])

    def test_an_async_one_is_refused(self) -> None:
        async def hear(event: Event) -> None: ...

        with pytest.raises(ConfigurationError, match="hear is async"):
            Sprint(FakeEngine([]), listeners=[hear])
