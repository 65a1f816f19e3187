"""Typed agents: types, corrections, and separate engines."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from pydantic_core import to_json
from typing_extensions import TypedDict

from sprint_agents import Answer, Budget, Executor, Limits, Plan, Planner, Sampling, Sprint
from sprint_agents.errors import ConfigurationError, InvalidResult, JournalError
from sprint_agents.events import ExecutionRetried
from sprint_agents.manifest import Manifest
from sprint_agents.testing import FakeEngine, Fault, Latency, Prompt, Reply, run_virtual

ANSWER = "<Final_answer>\\boxed{done}</Final_answer>"
ONE = {"": "<Plan_1><prompt_1.1>a</prompt_1.1></Plan_1>", "<execution_1.1>": "x", "</Execution_1>": ANSWER}
"""The replies of a model that plans one subtask."""


def run(engine, task="question", **options):
    return run_virtual(Sprint(engine, **options).run(task))


def given_plan(*prompts):
    async def policy(planning):
        stage = yield Plan.of(*prompts)
        yield Answer(value=stage.results)

    return policy


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    y: int


@dataclass
class Pair:
    left: str
    right: date


class Entry(TypedDict):
    name: str


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        (Literal["yes", "no"], "yes", "yes"),
        (int | None, "null", None),
        (int | None, "7", 7),
        (int | str, '"7"', "7"),
        (Annotated[int, Field(gt=3)], "4", 4),
        (Colour, "red", Colour.RED),
        (date, "2024-02-29", date(2024, 2, 29)),
        (Entry, '{"name": "a"}', {"name": "a"}),
        (Pair, '{"left": "a", "right": "2024-02-29"}', Pair("a", date(2024, 2, 29))),
        (Point | Pair, '{"x": 1, "y": 2}', Point(x=1, y=2)),
        (dict[str, Point], '{"a": {"x": 1, "y": 2}}', {"a": Point(x=1, y=2)}),
    ],
)
def test_any_type_that_json_can_hold_is_read_and_told_and_restored(declared: Any, text: str, value: object) -> None:
    executor = Executor(declared)
    assert executor.read(text) == value
    assert executor.read(to_json(value).decode(), is_json=True) == value
    assert executor.brief.schema is not None


def test_words_that_are_json_are_read_as_json_alone():
    assert Executor(str).read(' "a" ') == '"a"'
    assert Executor(str).read('"a"', is_json=True) == "a"
    assert Executor(int | str).read('"7"', is_json=True) == "7"
    with pytest.raises(InvalidResult, match="Invalid JSON"):
        Executor(Literal["a"]).read("a", is_json=True)


@dataclass
class Quote:
    words: str


def test_the_only_field_of_a_type_may_lack_its_name():
    assert Executor(Quote).read('"to be"', is_json=True) == Quote("to be")
    assert Planner(Quote).read('{"answer": "to be"}') == Quote("to be")
    for text in ("to be", "[1]", '{"word": "to be"}'):
        with pytest.raises(InvalidResult, match="is no Quote"):
            Executor(Quote).read(text, is_json=True)
    with pytest.raises(InvalidResult, match="is no Point"):
        Executor(Point).read("1", is_json=True)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (type("Odd", (), {}), r"Odd cannot be a result, since pydantic has no schema for it.*Use a pydantic model"),
        (Callable[[int], int], r"the result .*Callable\[\[int\], int\] holds what JSON cannot.*such as int or list"),
    ],
)
def test_a_type_that_json_cannot_hold_is_found_at_once(declared: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Executor(declared)


def test_wrong_numbers_are_found_at_once():
    with pytest.raises(ConfigurationError, match="attempts is 0: it must be at least 1"):
        Planner(int, attempts=0)
    with pytest.raises(ConfigurationError, match="tool_turns is 0"):
        Executor(int, tool_turns=0)


def test_an_error_names_the_place_and_the_reason():
    with pytest.raises(InvalidResult, match="is no Point: y: Field required; z: ") as caught:
        Executor(type("Point", (Point,), {"model_config": {"extra": "forbid"}})).read('{"x": 1, "z": 3}')
    assert caught.value.text == '{"x": 1, "z": 3}'
    with pytest.raises(InvalidResult, match=r"and 2 more$"):
        Executor(list[int]).read('["a", "b", "c", "d", "e", "f", "g"]')


# Corrections.


def test_an_executor_is_told_what_is_wrong_and_corrects_itself_over_the_same_tokens():
    engine = FakeEngine(["many</execution_1.1>", "17</execution_1.1>"])
    events = []

    async def watch():
        sprint = Sprint(engine, policy=given_plan("count"), executor=Executor(int), planner=Planner(list[int]))
        async with sprint.stream("question") as stream:
            events.extend([event async for event in stream])

    run_virtual(watch())
    result = events[-1].run
    assert result.answer == [17]
    first, second = engine.requests
    before = first.request.context
    assert second.request.context.flatten()[: len(before)] == before.flatten()
    assert second.request.context.text.removeprefix(before.text) == (
        "many</execution_1.1>\n[invalid: it is no int: Input should be a valid integer, unable to parse string as an "
        "integer]\n<execution_1.1>\n"
    )
    assert second.cached_tokens >= len(before)
    (retried,) = [event for event in events if isinstance(event, ExecutionRetried)]
    assert (retried.attempt, retried.number) == (2, 1)
    execution = result.stages[0].executions[0]
    assert (execution.text, execution.usage.calls, execution.usage.retries) == ("17", 2, 1)
    assert first.request.context.text + execution.transcript.removeprefix("\n<execution_1.1>\n") == (
        second.request.context.text + "17</execution_"
    )
    assert "<execution_1.1>\n17</execution_1.1>\n</Execution_1>" in result.transcript
    assert "many" not in result.transcript
    assert (result.usage.calls, result.usage.retries) == (2, 1)
    assert result.usage.sequential_tokens < result.usage.sequential_tokens_strict == result.usage.total_tokens


@pytest.mark.parametrize("failure", ["collect", "retry"])
@pytest.mark.parametrize("attempts", [1, 3])
def test_corrections_are_bounded_and_leave_the_raw_text(attempts: int, failure: Any):
    engine = FakeEngine("many</execution_1.1>")
    result = run(
        engine,
        policy=given_plan("count"),
        executor=Executor(int, attempts=attempts),
        planner=Planner(list[int]),
        failure=failure,
    )
    (execution,) = result.stages[0].executions
    assert execution.failure is not None
    assert execution.failure.type == "InvalidResult"
    assert execution.text == "many"
    assert engine.account().started == attempts
    assert execution.usage.retries == result.usage.retries == attempts - 1
    assert execution.transcript.count("many") == (attempts if attempts > 1 else 0)


def test_a_budget_ends_corrections_too():
    engine = FakeEngine("many</execution_1.1>")
    options = {"executor": Executor(int, attempts=9), "planner": Planner(list[int]), "budget": Budget(calls=2)}
    result = run(engine, policy=given_plan("count"), **options)
    assert result.stages[0].failures[0].failure.type == "BudgetExceeded"
    assert engine.account().started == 2


def answering(*answers):
    return FakeEngine(
        [f"<Final_answer>\\boxed{{{answers[0]}}}</Final_answer>", *(f"{a}</Final_answer>" for a in answers[1:])]
    )


@pytest.mark.parametrize("policy", ["interleaved", "sequential"])
def test_a_planner_corrects_its_answer(policy: str):
    engine = answering("plenty", "17")
    result = run(engine, policy=policy, planner=Planner(int))
    assert result.answer == 17
    assert [stage.answer for stage in result.stages] == ["plenty", "17"]
    assert (result.usage.retries, result.usage.calls) == (1, 2)
    assert "\n[invalid: it is no int: Input should be a valid integer" in result.transcript
    assert result.stages[1].usage.sequential_tokens == 0
    assert result.usage.sequential_tokens_strict == result.usage.total_tokens


def test_a_correction_is_journalled_and_not_asked_for_again(tmp_path):
    engine = answering("plenty", "some", "17")
    sprint = Sprint(engine, planner=Planner(int, attempts=3))
    first = run_virtual(sprint.run("question", journal=tmp_path / "run.jsonl"))
    again = run_virtual(sprint.run("question", journal=tmp_path / "run.jsonl"))
    assert again.transcript == first.transcript
    assert (again.answer, again.stages, again.usage.retries) == (17, first.stages, 2)
    assert engine.account().started == 3


def test_an_answer_that_is_not_the_models_is_not_asked_for_again():
    async def policy(planning):
        yield planning.ask("answer")
        yield Answer(value="no number")

    engine = FakeEngine("7</Final_answer>")
    with pytest.raises(InvalidResult, match="'no number' is no int"):
        run(engine, policy=policy, planner=Planner(int, attempts=5))
    assert engine.account().started == 1


def test_a_planners_failed_attempts_count_as_retries():
    engine = FakeEngine(ANSWER, faults={1: Fault.drop(after=1), 2: Fault.drop()})
    result = run(engine, failure="retry")
    assert (result.usage.retries, result.usage.calls) == (2, 3)
    assert result.stages[0].usage.total.retries == 2


# Journals.


def test_typed_results_are_typed_again_when_a_run_is_resumed(tmp_path):
    seen = []

    async def policy(planning):
        stage = yield Plan.of("where")
        seen.extend(stage.results)
        yield Answer(value="done")

    engine = FakeEngine('{"x": 1, "y": 2}</execution_1.1>')
    sprint = Sprint(engine, policy=policy, executor=Executor(Point))
    for _ in range(2):
        run_virtual(sprint.run("question", journal=tmp_path / "run.jsonl"))
    assert seen == [Point(x=1, y=2)] * 2
    other = Sprint(engine, policy=policy, executor=Executor(int))
    with pytest.raises(JournalError, match=r"Changed since: executor's type\."):
        run_virtual(other.run("question", journal=tmp_path / "run.jsonl"))


# Settings of one agent.


def test_each_agent_has_its_sampling():
    engine = FakeEngine(ONE)
    planner, executor = Sampling(temperature=0), Sampling(temperature=0.3)
    run(engine, planner=Planner(sampling=planner), executor=Executor(sampling=executor, max_tokens=5))
    assert [record.request.sampling for record in engine.requests] == [planner, executor, planner]
    assert engine.requests[1].request.max_tokens == 5


def test_instructions_are_read_by_all_before_the_task():
    engine = FakeEngine(ONE)
    run(
        engine,
        "question {task}",
        planner=Planner(instructions="  Be {task}.\n  Plan."),
        executor=Executor(instructions="Work."),
    )
    texts = [record.request.context.text for record in engine.requests]
    assert all(text.startswith("Be {task}.\nPlan.\nWork.\nquestion {task}\n") for text in texts)


def test_a_model_that_knows_only_its_tasks_takes_no_instructions():
    manifest = Manifest(model="tiny", tasks={"countdown": {"counts": [3], "numbers": [1, 9], "targets": [1, 99]}})
    engine = FakeEngine(ANSWER, manifest=manifest)
    with pytest.raises(ConfigurationError, match="tiny reads nothing but the tasks that it was trained on"):
        Sprint(engine, executor=Executor(instructions="Be brief."))


class Counting(FakeEngine):
    """An engine that counts the characters that it encodes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.encoded: list[str] = []

    async def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        return await super().encode(text)


def test_executors_on_an_engine_of_their_own_read_the_same_text_and_share_its_encoding():
    prompts = [f"look at part {number}" for number in range(6)]
    plan = "<Plan_1>" + "".join(f"<prompt_1.{n}>{p}</prompt_1.{n}>" for n, p in enumerate(prompts, 1)) + "</Plan_1>"

    def execute(prompt: Prompt) -> str:
        number = prompt.text.rsplit("<execution_1.", 1)[1].split(">")[0]
        return f"part {number} is fine</execution_1.{number}>"

    def respond(prompt: Prompt) -> str:
        return (
            ANSWER if "</Execution_1>" in prompt.text else execute(prompt) if "<execution_" in prompt.tail(20) else plan
        )

    alone = FakeEngine(respond)
    reference = run(alone)
    large, small = FakeEngine(respond, latency=Latency(token=0.01)), Counting(execute)
    asyncio.run(small.encode("words that give other words other ids: fine is part look"))
    small.encoded.clear()
    result = run(large, executor=Executor(engine=small, sampling=Sampling(temperature=0)))
    assert result.transcript == reference.transcript
    assert result.stages[0].results == reference.stages[0].results
    assert [len(large.requests), len(small.requests)] == [2, 6]
    texts = {record.request.context.text for record in alone.requests[1:-1]}
    assert {record.request.context.text for record in small.requests} == texts
    for record in small.requests:
        ids = record.request.context.flatten()
        assert asyncio.run(small.decode(ids)) == record.request.context.text
    # The joined results are in the planner's vocabulary.
    assert asyncio.run(large.decode(large.requests[1].request.context.flatten())) in result.transcript
    # Each prefix is encoded once, so the total is about the length of the longest context plus the headers.
    assert sum("question" in text for text in small.encoded) == 1
    assert all(small.encoded.count(text) == 1 for text in small.encoded if "prompt" in text and len(text) > 20)
    assert result.usage.calls == 8


def test_a_planner_may_have_an_engine_of_its_own():
    large, small = FakeEngine(ONE), FakeEngine("x")
    assert run(small, planner=Planner(engine=large)).stages[0].results == ["x"]
    assert (large.account().started, small.account().started) == (2, 1)


# The time limit of a call.


def test_calls_that_hang_are_given_up_each_at_its_own_time():
    def respond(prompt: Prompt) -> Reply:
        number = int(prompt.text.rsplit("<execution_1.", 1)[1].split(">")[0])
        return Reply("x", delay=5.0 * number, fault=None if number == 1 else Fault.hang())

    engine = FakeEngine(respond)
    prompts = [f"part {number}" for number in range(1, 4)]
    result = run(
        engine, policy=given_plan(*prompts), planner=Planner(list[str]), limits=Limits(call_seconds=7, concurrency=2)
    )
    (stage,) = result.stages
    assert stage.results == ["x"]
    assert [execution.failure.type for execution in stage.failures] == ["EngineTimeout", "EngineTimeout"]
    assert result.usage.seconds == pytest.approx(5 + 7)  # the third began when the first was done
    assert engine.account().running == 0
