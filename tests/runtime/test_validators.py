"""Validators of answers and results: a value of the right type goes back to its model, which reads why."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Answer, Executor, Plan, Planner, RunContext, Sprint, Tool
from sprint_agents.errors import ConfigurationError, FunctionError, InvalidResult, ModelRetry
from sprint_agents.events import ExecutionRetried
from sprint_agents.testing import FakeEngine


def refuse_small(number: int) -> None:
    if number < 10:
        raise ModelRetry(f"{number} is too small: give 10 or more")


async def refuse_below_deps(context: RunContext[int], number: int) -> int:
    await asyncio.sleep(0)
    if number < context.deps:
        raise ModelRetry(f"{number} is less than {context.deps}")
    return number


async def one_subtask(planning):
    stage = yield Plan.of("a number")
    yield Answer(value=str(stage.results))


async def nested(planning):
    async def inner(planning):
        yield Answer(value=3)

    stage = yield Plan.of("a number", nested=inner)
    yield Answer(value=str(stage.failures[0].failure))


class TestResults:
    @pytest.mark.parametrize("validator", [refuse_small, refuse_below_deps])
    def test_the_model_reads_why_and_tries_again(self, validator: Any) -> None:
        engine = FakeEngine(['{"result": 3}', '{"result": 12}'])
        sprint = Sprint(engine, policy=one_subtask, executor=Executor(int, validator=validator), dialect="json")
        events: list[Any] = []

        async def main() -> Any:
            async with sprint.stream("task", deps=10) as stream:
                events.extend([event async for event in stream])
            return events[-1].run

        run = asyncio.run(main())
        assert run.answer == "[12]"
        (retried,) = [event for event in events if isinstance(event, ExecutionRetried)]
        assert "3 is " in retried.reason
        assert retried.reason.split(": ", 1)[1] in engine.requests[-1].request.context.text
        assert run.usage.retries == 1

    def test_attempts_bound_it(self) -> None:
        engine = FakeEngine(lambda prompt: '{"result": 3}')
        executor = Executor(int, validator=refuse_small, attempts=3)
        run = Sprint(engine, policy=one_subtask, executor=executor, dialect="json").run_sync("task")
        failure = run.stages[0].executions[0].failure
        assert failure is not None
        assert failure.type == "InvalidResult"
        assert len(engine.requests) == 3

    def test_the_result_of_a_nested_policy_is_looked_at_too(self) -> None:
        run = Sprint(
            FakeEngine(""), policy=nested, executor=Executor(int, validator=refuse_small), dialect="json"
        ).run_sync("task")
        assert "3 is too small" in run.answer

    @pytest.mark.parametrize(
        ("outcome", "message"),
        [
            (ValueError("no database"), "validator= failed on '3', ValueError: no database"),
            (False, "validator= returned False: it raises ModelRetry to refuse a value"),
        ],
    )
    def test_a_validator_that_fails_fails_the_execution(self, outcome: Any, message: str) -> None:
        def validator(number: int) -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        engine = FakeEngine('{"result": 3}')
        executor = Executor(int, validator=validator)
        run = Sprint(engine, policy=one_subtask, executor=executor, dialect="json").run_sync("task")
        failure = run.stages[0].executions[0].failure
        assert failure is not None
        assert failure.type == "FunctionError"
        assert failure.message.startswith(message)
        assert len(engine.requests) == 1

    def test_a_tool_may_ask_for_another_try(self) -> None:
        def find(title: str) -> str:
            """Find a book."""
            raise ModelRetry("there is no such book: search for its author")

        tool = Tool.of(find)
        outcome = asyncio.run(tool.use('{"title": "Emma"}', seconds=1))
        assert (outcome.text, outcome.failed) == ('"there is no such book: search for its author"', True)


class TestAnswers:
    def test_the_planner_answers_again(self) -> None:
        engine = FakeEngine(['{"answer": 3}', '{"answer": 12}'])
        run = Sprint(engine, planner=Planner(int, validator=refuse_small), dialect="json").run_sync("task")
        assert run.answer == 12
        assert "3 is too small: give 10 or more" in engine.requests[1].request.context.text
        assert [stage.answer for stage in run.stages] == ["3", "12"]

    def test_attempts_bound_it(self) -> None:
        engine = FakeEngine(lambda prompt: '{"answer": 3}')
        with pytest.raises(InvalidResult, match="'3' was refused: 3 is too small"):
            Sprint(engine, planner=Planner(int, validator=refuse_small), dialect="json").run_sync("task")
        assert len(engine.requests) == 2

    def test_a_validator_that_fails_ends_the_run(self) -> None:
        def validator(number: int) -> None:
            raise ValueError("no database")

        with pytest.raises(FunctionError, match="validator= failed on '3', ValueError: no database") as failed:
            Sprint(FakeEngine('{"answer": 3}'), planner=Planner(int, validator=validator), dialect="json").run_sync("x")
        assert failed.value.run is not None
        assert failed.value.run.stages[0].answer == "3"

    def test_missing_deps_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="pass an int, which validator= of the planner reads"):
            Sprint(FakeEngine(""), planner=Planner(int, validator=refuse_below_deps)).run_sync("task")

    def test_a_resumed_run_does_not_ask_about_what_is_known(self, tmp_path: Path) -> None:
        """A verdict may change with time, and a resumed run must do what the first one did."""
        asked: list[int] = []

        def validator(number: int) -> None:
            asked.append(number)
            refuse_small(number)

        path = tmp_path / "journal"
        engine = FakeEngine(['{"answer": 3}', '{"answer": 12}'])
        sprint = Sprint(engine, planner=Planner(int, validator=validator), dialect="json")
        first = sprint.run_sync("task", journal=path)
        assert asked == [3, 12]
        second = sprint.run_sync("task", journal=path)
        assert asked == [3, 12]
        assert len(engine.requests) == 2
        assert (second.answer, second.transcript) == (first.answer, first.transcript)
        unfinished = tmp_path / "unfinished"
        unfinished.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))  # without the end
        assert sprint.run_sync("task", journal=unfinished).answer == 12
        assert asked == [3, 12, 12]
