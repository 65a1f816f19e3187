"""Whatever a function of the user's does becomes data, or one error that holds the run so far."""

import asyncio
import gc
import os
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import Annotated

import pytest
from pydantic import AfterValidator

from sprint_agents import Answer, Budget, Executor, Hooks, Limits, Plan, Planner, Run, Sprint
from sprint_agents.errors import (
    ConfigurationError,
    DeadlineExceeded,
    ExecutionFailed,
    FunctionError,
    InvalidResult,
    NoAnswer,
    PolicyError,
    SprintError,
    run_of,
)
from sprint_agents.functions import Threads, call_function
from sprint_agents.policies import first_success, interleaved, race, skeleton, tree_search, until, with_fallback
from sprint_agents.testing import FakeEngine, run_virtual
from sprint_agents.tools import Tool

CANCELLED_INSIDE = pytest.mark.reported(
    "openai/openai-agents-python#2584", "google/adk-python#7172", "radixark/miles#3319"
)
IN_MAP = pytest.mark.reported("radixark/miles#3319", "deepset-ai/haystack#12796")
EXITS = pytest.mark.reported("cuga-project/cuga-agent#625", "BasisResearch/effectful#757")
STOP_ITERATION = pytest.mark.reported("python/cpython#112182", "agronholm/anyio#475", "langchain-ai/langchain#22997")
SURROGATES = pytest.mark.reported("agent0ai/agent-zero#1773", "UKGovernmentBEIS/inspect_ai#3802")
CHECKER = pytest.mark.reported("UKGovernmentBEIS/inspect_ai#820", "UKGovernmentBEIS/inspect_ai#3814")
ITERABLE = pytest.mark.reported("modelcontextprotocol/python-sdk#2114")
GENERATORS = pytest.mark.reported("pydantic/pydantic-ai#1560", "wanxingai/LightAgent#107")
ALWAYS_TRUE = pytest.mark.reported("UKGovernmentBEIS/inspect_ai#820")


class Unreadable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class OddText(Exception):
    def __str__(self):
        return 5


class NotAnException(BaseException):
    pass


async def cancelled_task(value=None):
    task = asyncio.create_task(asyncio.sleep(9))
    task.cancel()
    await task


async def cancels_itself(value=None):
    asyncio.current_task().cancel()
    await asyncio.sleep(9)


def raising(error):
    def function(value=None):
        raise error

    return function


def async_raising(error):
    async def function(value=None):
        raise error

    return function


async def in_a_group(value=None):
    async with asyncio.TaskGroup() as group:
        group.create_task(async_raising(LookupError("no such row"))())


def exits(value=None):
    sys.exit(2)


async def async_exits(value=None):
    sys.exit(2)


def first_of_none(value=None):
    return next(iter([]))


async def async_first_of_none(value=None):
    return next(iter([]))


def odd_file(value=None):
    raise FileNotFoundError("caf\udce9.txt")


def circle(value=None):
    ring = []
    ring.append(ring)
    return ring


FAILING = [
    pytest.param(cancelled_task, "it was cancelled", marks=CANCELLED_INSIDE, id="a task of its own was cancelled"),
    pytest.param(
        async_raising(asyncio.CancelledError("no")), "it was cancelled: no", marks=CANCELLED_INSIDE, id="raised"
    ),
    pytest.param(
        raising(asyncio.CancelledError("no")), "it was cancelled: no", marks=CANCELLED_INSIDE, id="in a thread"
    ),
    pytest.param(exits, "it raised SystemExit: 2", marks=EXITS, id="sys.exit in a thread"),
    pytest.param(async_exits, "it raised SystemExit: 2", marks=EXITS, id="sys.exit"),
    pytest.param(raising(KeyboardInterrupt()), "it raised KeyboardInterrupt", marks=EXITS, id="KeyboardInterrupt"),
    pytest.param(raising(GeneratorExit()), "it raised GeneratorExit", marks=EXITS, id="GeneratorExit"),
    pytest.param(async_raising(GeneratorExit()), "it raised GeneratorExit", marks=EXITS, id="GeneratorExit on it"),
    pytest.param(raising(NotAnException("odd")), "it raised NotAnException: odd", marks=EXITS, id="BaseException"),
    pytest.param(async_raising(NotAnException("odd")), "it raised NotAnException: odd", marks=EXITS, id="on the loop"),
    pytest.param(
        raising(BaseExceptionGroup("two", [NotAnException()])), "BaseExceptionGroup: two", marks=EXITS, id="group"
    ),
    pytest.param(in_a_group, "(1 sub-exception), LookupError: no such row", marks=ITERABLE, id="task group"),
    pytest.param(first_of_none, "StopIteration", marks=STOP_ITERATION, id="StopIteration in a thread"),
    pytest.param(async_first_of_none, "StopIteration", marks=STOP_ITERATION, id="StopIteration"),
    pytest.param(raising(StopAsyncIteration()), "StopAsyncIteration", marks=STOP_ITERATION, id="StopAsyncIteration"),
    pytest.param(raising(Unreadable()), "no message, since reading it raised RuntimeError", marks=SURROGATES, id="str"),
    pytest.param(async_raising(OddText()), "reading it raised TypeError", marks=SURROGATES, id="str gives a number"),
    pytest.param(odd_file, r"caf\udce9.txt", marks=SURROGATES, id="half of a surrogate pair"),
    pytest.param(lambda value=None: object(), "Unable to serialize", marks=SURROGATES, id="no JSON"),
    pytest.param(lambda value=None: b"\xff", "invalid utf-8", marks=SURROGATES, id="bytes"),
    pytest.param(
        lambda value=None: ["caf\udce9"], "surrogates not allowed", marks=SURROGATES, id="surrogate in a list"
    ),
    pytest.param(circle, "ircular reference", marks=SURROGATES, id="circle"),
    pytest.param(raising(PolicyError("inner")), "inner", marks=SURROGATES, id="an error of an inner run"),
]


async def both(planning):
    stage = yield Plan.of("odd", "fine")
    yield Answer(value=f"{len(stage.results)} of 2")


def answers(prompt):
    return "<Final_answer>\n\\boxed{done}\n</Final_answer>"


def assert_survives(run):
    """Check that a record can be written and read."""
    assert Run[run.__pydantic_generic_metadata__["args"]].model_validate_json(run.model_dump_json()).id == run.id


@pytest.mark.parametrize(("function", "message"), FAILING)
def test_an_executor_that_fails_is_one_failed_execution(function, message, tmp_path):
    def executor(subtask):
        return function(subtask) if subtask.number == 1 else "result"

    run = Sprint(FakeEngine(answers), policy=both, executor=executor).run_sync("task", journal=tmp_path / "journal")
    odd, fine = run.stages[0].executions
    assert message in odd.failure.message
    assert fine.value == "result"
    assert run.answer == "1 of 2"
    assert_survives(run)


@pytest.mark.parametrize(("function", "message"), FAILING)
def test_under_fail_fast_it_is_the_error_of_the_run(function, message):
    sprint = Sprint(FakeEngine(answers), policy=both, executor=function, failure="fail_fast")
    with pytest.raises(ExecutionFailed, match=r"subtask 1\.\d failed") as caught:
        sprint.run_sync("task")
    assert message in str(caught.value)
    assert caught.value.run.error.type == "ExecutionFailed"
    assert_survives(caught.value.run)


@pytest.mark.parametrize(("function", "message"), [case for case in FAILING if "inner" not in case.values])
def test_a_tool_that_fails_tells_the_model(function, message):
    async def on_loop() -> str:
        return await function()

    def in_thread() -> str:
        return function()

    tool = Tool.of(on_loop if asyncio.iscoroutinefunction(function) else in_thread, name="tool")
    outcome = run_virtual(tool.use("{}", seconds=60))
    assert outcome.failed
    assert message.replace("\\", "\\\\") in outcome.text


@CANCELLED_INSIDE
def test_an_executor_that_cancels_its_own_task_loses_nothing_else():
    async def executor(subtask):
        return await cancels_itself() if subtask.number == 1 else "result"

    run = Sprint(FakeEngine(answers), policy=both, executor=executor).run_sync("task")
    odd, fine = run.stages[0].executions
    assert (odd.failure.type, fine.value) == ("FunctionError", "result")


@CANCELLED_INSIDE
@pytest.mark.parametrize("executor", [lambda subtask: asyncio.sleep(3600), None])
def test_a_real_cancellation_still_ends_the_run(executor):
    async def hang(subtask):
        await asyncio.sleep(3600)

    async def main():
        task = asyncio.create_task(Sprint(FakeEngine(answers), policy=both, executor=executor or hang).run("task"))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), len(asyncio.all_tasks())

    assert run_virtual(main()) == (True, 1)


@EXITS
def test_a_keyboard_interrupt_on_the_loop_is_the_users():
    with pytest.raises(KeyboardInterrupt):
        Sprint(FakeEngine(answers), policy=both, executor=async_raising(KeyboardInterrupt())).run_sync("task")


@SURROGATES
def test_a_text_with_half_a_surrogate_pair_is_a_result(tmp_path):
    sprint = Sprint(FakeEngine(answers), policy=both, executor=lambda subtask: os.fsdecode(b"caf\xe9.txt"))
    run = sprint.run_sync("task", journal=tmp_path / "journal")
    assert run.stages[0].results == [r"caf\udce9.txt"] * 2
    assert r"caf\udce9.txt" in run.transcript
    assert_survives(run)


@CHECKER
@pytest.mark.parametrize(
    "checker", [lambda answer: 1 / 0, cancelled_task, exits, async_exits, first_of_none, raising(Unreadable())]
)
def test_a_checker_that_fails_keeps_the_answer(checker):
    sprint = Sprint(FakeEngine(answers), checker=checker)
    with pytest.raises(FunctionError, match="checker= failed on the answer") as caught:
        sprint.run_sync("task")
    run = caught.value.run
    assert (run.answer, run.verified, run.error.type) == ("done", None, "FunctionError")
    assert_survives(run)

    async def record():
        async with sprint.map(["task"]) as runs:
            return [run async for run in runs]

    (run,) = asyncio.run(record())
    assert (run.answer, run.verified, run.error.type) == ("done", None, "FunctionError")


@CHECKER
@pytest.mark.parametrize(
    "fail", [lambda: 1 / 0, exits, first_of_none, raising(Unreadable()), raising(asyncio.CancelledError())]
)
def test_a_policy_that_fails_gives_the_run_so_far(fail):
    async def policy(planning):
        yield Plan.of("a", "b")
        fail()
        yield Answer(value="never")

    sprint = Sprint(FakeEngine(answers), policy=policy, executor=lambda subtask: "result")
    with pytest.raises(SprintError) as caught:
        sprint.run_sync("task")
    assert caught.value.run.stages[0].results == ["result", "result"]
    assert_survives(caught.value.run)


@CHECKER
@pytest.mark.parametrize(
    "fail", [lambda: 1 / 0, exits, first_of_none, raising(Unreadable()), raising(asyncio.CancelledError())]
)
def test_a_policy_that_fails_when_it_is_closed_gives_the_run_so_far(fail):
    async def policy(planning):
        try:
            yield Plan.of("a", "b")
            yield Answer(value="an answer")
        finally:
            fail()

    sprint = Sprint(FakeEngine(answers), policy=policy, executor=lambda subtask: "result")
    with pytest.raises(PolicyError, match="the policy raised") as caught:
        sprint.run_sync("task")
    assert caught.value.run.stages[0].results == ["result", "result"]


@CHECKER
@pytest.mark.parametrize("fail", [raising(ValueError("no")), exits, raising(asyncio.CancelledError())])
def test_a_policy_that_fails_when_it_is_called_has_failed(fail):
    with pytest.raises(PolicyError, match="the policy raised after 0 stages") as caught:
        Sprint(FakeEngine(answers), policy=fail).run_sync("task")
    assert caught.value.run.error.type == "PolicyError"


def test_an_error_of_a_policy_is_not_its_own_cause():
    cause = KeyError("the cause")

    async def policy(planning):
        try:
            yield Plan.of("a", nested=nested)
        finally:
            raise NoAnswer("none") from cause

    async def nested(planning):
        raise NoAnswer("none")
        yield

    with pytest.raises(NoAnswer) as caught:
        Sprint(FakeEngine(answers), policy=policy).run_sync("task")
    assert caught.value.__cause__ is cause


def test_a_policy_that_fails_when_it_is_closed_hides_no_earlier_error():
    async def policy(planning):
        try:
            yield Plan.of("a")
            yield 7
        finally:
            exits()

    with pytest.raises(PolicyError, match="a policy yields"):
        Sprint(FakeEngine(answers), policy=policy, executor=lambda subtask: "result").run_sync("task")


@CHECKER
@pytest.mark.parametrize("fail", [lambda: 1 / 0, exits, raising(asyncio.CancelledError()), raising(Unreadable())])
def test_an_attempt_whose_policy_fails_is_data(fail):
    async def broken(planning):
        fail()
        yield

    run = Sprint(FakeEngine(answers), policy=with_fallback(broken, interleaved)).run_sync("task")
    assert run.answer == "done"
    assert run.stages[0].failures[0].failure is not None


@CHECKER
@pytest.mark.parametrize("role", ["accept", "keep"])
@pytest.mark.parametrize("fail", [cancelled_task, exits, async_exits, first_of_none, raising(Unreadable())])
def test_a_check_of_a_stage_that_fails_gives_the_run_so_far(role, fail):
    async def policy(planning):
        yield Plan.of("first")
        yield Plan.of("a", "b", **{role: fail})
        yield Answer(value="never")

    sprint = Sprint(FakeEngine(answers), policy=policy, executor=lambda subtask: "result")
    with pytest.raises(PolicyError, match=f"{role}= failed on") as caught:
        sprint.run_sync("task")
    assert caught.value.run.stages[0].results == ["result"]


async def collected(sprint, tasks, concurrency):
    async with sprint.map(tasks, concurrency=concurrency) as runs:
        return [run async for run in runs]


@IN_MAP
@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize("fail", [cancelled_task, cancels_itself, exits, async_exits, first_of_none, odd_file])
@pytest.mark.parametrize("role", ["executor", "policy", "checker"])
def test_map_gives_one_run_for_each_task(role, fail, concurrency):
    calls = 0

    async def once(value=None):
        nonlocal calls
        calls += 1
        if calls == 1:
            result = fail()
            if asyncio.iscoroutine(result):
                await result
        return "result"

    async def failing_policy(planning):
        await once()
        yield Answer(value="done")

    options = {
        "executor": {"policy": both, "executor": once},
        "policy": {"policy": failing_policy},
        "checker": {"policy": interleaved, "checker": once},
    }[role]
    tasks = ["t1", "t2", "t3", "t4"]
    runs = asyncio.run(collected(Sprint(FakeEngine(answers), **options), tasks, concurrency))
    assert sorted(run.task for run in runs) == tasks
    assert sum(run.error is not None for run in runs) == (0 if role == "executor" else 1)
    for run in runs:
        assert_survives(run)


@IN_MAP
@pytest.mark.parametrize("fail", [cancelled_task, cancels_itself, exits, raising(LookupError("gone"))])
@pytest.mark.parametrize("role", ["policy", "engine"])
def test_whatever_ends_a_run_it_keeps_its_stages_and_no_reader_is_cancelled(role, fail):
    async def policy(planning):
        yield Plan.of("a")
        await fail()  # those that are not async fail before that
        yield Answer(value="never")

    async def asks(planning):
        yield Plan.of("a")
        yield planning.ask()

    sprint = Sprint(FakeEngine(fail), policy=policy if role == "policy" else asks, executor=lambda subtask: "result")

    async def stream():
        async with sprint.stream("task") as events:
            async for _ in events:
                pass

    (run,) = asyncio.run(collected(sprint, ["task"], 1))
    assert run.error is not None
    assert run.stages[0].results == ["result"]
    assert_survives(run)
    with pytest.raises((SprintError, LookupError)) as caught:
        asyncio.run(stream())
    assert run_of(caught.value).stages[0].results == ["result"]
    if fail is not cancels_itself:  # which then cancels the caller's task
        with pytest.raises((SprintError, LookupError)) as caught:
            sprint.run_sync("task")
        assert run_of(caught.value).stages[0].results == ["result"]


@IN_MAP
def test_runs_that_raise_the_same_error_keep_their_own_records():
    class Slow(FakeEngine):
        async def end_run(self, run):
            await asyncio.sleep(1)

    tasks = ["t1", "t2", "t3"]
    runs = run_virtual(collected(Sprint(Slow(raising(LookupError("gone")))), tasks, 3))
    assert sorted(run.task for run in runs) == tasks


@IN_MAP
@pytest.mark.parametrize("fail", [exits, raising(asyncio.CancelledError())])
def test_an_engine_that_exits_fails_the_execution(fail):
    run = Sprint(FakeEngine({"<execution_1.1>": fail, "": "fine"}), policy=both).run_sync("task")
    assert [execution.succeeded for execution in run.stages[0].executions] == [False, True]


@IN_MAP
@pytest.mark.parametrize("odd", [None, 5, b"bytes", ["a"], "", "half \ud83d", object()])
def test_map_gives_a_failed_run_for_what_is_no_task(odd):
    runs = asyncio.run(collected(Sprint(FakeEngine(answers)), ["t1", odd, "t3"], 1))
    assert [run.error.type if run.error else None for run in runs] == [None, "UnsupportedTask", None]
    for run in runs:
        assert_survives(run)


async def yields():
    yield 1


@ITERABLE
@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize(
    "error", [OSError("disk"), ValueError("row 3"), Unreadable(), ExceptionGroup("g", [OSError()])]
)
def test_the_error_of_maps_iterable_is_raised_bare_after_what_was_finished(error, concurrency):
    def tasks():
        yield "t1"
        yield "t2"
        raise error

    async def main():
        runs = []
        try:
            async with Sprint(FakeEngine(answers)).map(tasks(), concurrency=concurrency) as stream:
                async for run in stream:
                    runs.append(run.task)  # noqa: PERF401 - kept when the iteration raises
        except Exception as caught:
            return sorted(runs), caught
        return runs, None

    assert asyncio.run(main()) == (["t1", "t2"], error)


@ITERABLE
@pytest.mark.parametrize("tasks", ["one task", 5, None, yields(), lambda: ["task"]])
def test_what_map_cannot_iterate_over_is_refused_at_once(tasks):
    with pytest.raises(ConfigurationError, match=r"map takes an iterable of tasks, not .*: pass \[task\]"):
        Sprint(FakeEngine(answers)).map(tasks)


def sync_yields():
    yield 1


async def yields_for(subtask):
    yield 1


class Yields:
    __name__ = "yields"

    async def __call__(self):
        yield 1


@GENERATORS
@pytest.mark.parametrize("function", [yields, sync_yields, Yields()])
def test_a_generator_is_no_tool(function):
    with pytest.raises(ConfigurationError, match=r"is a generator function \(.*yields\)"):
        Tool.of(function)


@GENERATORS
@pytest.mark.parametrize(
    "executor", [yields_for, partial(yields_for), "a text", Planner(int), 5, [lambda subtask: "x"]]
)
def test_what_cannot_be_an_executor_is_refused_when_the_sprint_is_made(executor):
    with pytest.raises(ConfigurationError, match="executor="):
        Sprint(FakeEngine(answers), executor=executor)


@GENERATORS
@pytest.mark.parametrize("checker", [yields_for, "yes", 1])
def test_what_cannot_be_a_checker_is_refused_when_the_sprint_is_made(checker):
    with pytest.raises(ConfigurationError, match="checker="):
        Sprint(FakeEngine(answers), checker=checker)


class Says:
    """A callable object whose call is async."""

    def __init__(self, verdict):
        self.verdict = verdict

    async def __call__(self, value):
        await asyncio.sleep(0)
        return self.verdict


def says(verdict):
    async def check(value):
        await asyncio.sleep(0)
        return verdict

    return check


KINDS = [says, Says, lambda verdict: partial(Says(verdict)), lambda verdict: lambda value: says(verdict)(value)]


@ALWAYS_TRUE
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verdict", [True, False, None])
def test_a_checker_may_be_async(kind, verdict):
    assert Sprint(FakeEngine(answers), checker=kind(verdict)).run_sync("task").verified is verdict


@ALWAYS_TRUE
@pytest.mark.parametrize("kind", KINDS)
def test_accept_keep_and_checks_may_be_async(kind):
    async def policy(planning):
        stage = yield Plan.of("a", "b", accept=kind(False), keep=kind([2]))
        assert stage.accepted is None
        stage = yield Plan.of("c", accept=kind(True))
        assert stage.accepted == 1
        yield Answer(value="done")

    run = Sprint(FakeEngine(answers), policy=policy, executor=lambda subtask: subtask.prompt).run_sync("task")
    assert "<execution_1.2>\nb" in run.transcript
    assert "<execution_1.1>" not in run.transcript
    for check in (race, lambda policy, check: until(policy, check, attempts=2)):
        sprint = Sprint(FakeEngine(answers), policy=check(interleaved, check=kind(True)))
        assert sprint.run_sync("task").answer == "done"
        with pytest.raises(SprintError, match="did not pass"):
            Sprint(FakeEngine(answers), policy=check(interleaved, check=kind(False))).run_sync("task")
    run = Sprint(FakeEngine(answers), policy=first_success(both, kind(False)), executor=lambda subtask: "x").run_sync(
        "task"
    )
    assert run.stages[0].accepted is None


@ALWAYS_TRUE
def test_executors_of_every_kind_give_their_value():
    class Looks:
        async def __call__(self, subtask):
            return subtask.prompt

        def method(self, subtask):
            return subtask.prompt

    for executor in (Looks(), Looks().method, partial(lambda prefix, subtask: subtask.prompt, "p")):
        run = Sprint(FakeEngine(answers), policy=both, executor=executor).run_sync("task")
        assert run.stages[0].results == ["odd", "fine"]
    run = Sprint(FakeEngine(answers), policy=both, executor=Executor(str)).run_sync("task")
    assert run.stages[0].executions[0].succeeded


@GENERATORS
def test_a_generator_is_no_result_and_no_verdict():
    def letters(subtask):
        return (letter for letter in subtask.prompt)

    run = Sprint(FakeEngine(answers), policy=both, executor=letters).run_sync("task")
    assert "can be read only once: return a list" in run.stages[0].failures[0].failure.message

    async def policy(planning):
        yield Plan.of("a", accept=yields_for)

    with pytest.raises(PolicyError, match="accept= is a generator function"):
        Sprint(FakeEngine(answers), policy=policy, executor=lambda subtask: "x").run_sync("task")


@CANCELLED_INSIDE
def test_under_fail_fast_an_executor_that_cancels_its_own_task_ends_the_run():
    with pytest.raises(ExecutionFailed, match=r"subtask 1\.1 failed: it was cancelled"):
        Sprint(FakeEngine(answers), policy=both, executor=cancels_itself, failure="fail_fast").run_sync("task")


@CHECKER
@pytest.mark.parametrize("fail", [lambda value: 1 / 0, odd_file, first_of_none, raising(Unreadable())])
def test_a_validator_that_fails_makes_an_invalid_result(fail):
    checked = Annotated[str, AfterValidator(fail)]
    run = Sprint(FakeEngine(answers), policy=both, executor=Executor(checked)).run_sync("task")
    assert {execution.failure.type for execution in run.stages[0].executions} == {"InvalidResult"}
    assert_survives(run)
    with pytest.raises(InvalidResult) as caught:
        Sprint(FakeEngine(answers), planner=Planner(checked)).run_sync("task")
    assert caught.value.run.error.type == "InvalidResult"


@ALWAYS_TRUE
@pytest.mark.parametrize("kind", KINDS)
def test_a_policys_own_functions_may_be_async(kind):
    sprint = Sprint(FakeEngine({"": "<Plan_1><prompt_1.1>a</prompt_1.1></Plan_1>"}), executor=lambda subtask: "x")
    sprint.policy = skeleton(merge=kind("merged"))
    assert sprint.run_sync("task").answer == "merged"
    sprint = Sprint(FakeEngine(answers), policy=tree_search(kind(1.0), depth=1, beam=1), executor=lambda subtask: "x")
    assert sprint.run_sync("task").answer == "done"
    policy = until(interleaved, kind(False), attempts=2, feedback=kind("a note about it"))
    with pytest.raises(SprintError) as caught:
        Sprint(FakeEngine(answers), policy=policy).run_sync("task")
    assert "a note about it" in caught.value.run.transcript


@SURROGATES
@pytest.mark.parametrize("fail", [lambda value: 1 / 0, first_of_none, raising(Unreadable())])
def test_a_policys_own_function_that_fails_gives_the_run_so_far(fail):
    policy = tree_search(fail, depth=1, beam=1)
    with pytest.raises(PolicyError) as caught:
        Sprint(FakeEngine(answers), policy=policy, executor=lambda subtask: "x").run_sync("task")
    assert_survives(caught.value.run)


async def swallows_its_cancellation(value=None):
    asyncio.current_task().cancel()
    try:
        await asyncio.sleep(9)
    except asyncio.CancelledError:
        return "carried on"


async def leaves_itself_cancelled(value=None):
    asyncio.current_task().cancel()
    return "done"


@CANCELLED_INSIDE
@pytest.mark.parametrize("calls", [1, 3])
def test_a_tool_that_cancels_its_own_task_tells_the_model(calls):
    async def tool() -> str:
        """Cancel the task that runs the tool."""
        return await cancels_itself()

    call = ", ".join(['{"tool": "tool", "arguments": {}}'] * calls)
    engine = FakeEngine(
        ['{"subtasks": [{"prompt": "go"}]}', f'{{"call": [{call}]}}', '{"result": "done"}', '{"answer": "done"}']
    )
    run = Sprint(engine, executor=Executor(str, tools=[tool]), dialect="json").run_sync("task")
    (execution,) = run.stages[0].executions
    assert execution.value == "done"
    assert [(use.failed, use.text) for use in execution.tool_uses] == [(True, '"it was cancelled"')] * calls


@CANCELLED_INSIDE
@pytest.mark.parametrize(
    ("function", "result"), [(swallows_its_cancellation, "carried on"), (leaves_itself_cancelled, None)]
)
def test_a_cancellation_of_itself_ends_no_more_than_the_call(function, result):
    async def policy(planning):
        stage = yield Plan.of("one", accept=accepts)
        yield Answer(value=await planning.call(function, stage.executions[0].value))

    async def accepts(execution):
        asyncio.current_task().cancel()
        return True

    sprint = Sprint(FakeEngine(answers), policy=policy, executor=lambda subtask: "x")
    with pytest.raises(PolicyError, match=r"accept= failed on execution 1\.1, FunctionError: it was cancelled"):
        sprint.run_sync("task")

    run = Sprint(FakeEngine(answers), policy=both, executor=function).run_sync("task")
    assert [execution.value for execution in run.stages[0].executions] == [result] * 2
    assert {execution.failure and execution.failure.type for execution in run.stages[0].executions} == {
        None if result else "FunctionError"
    }


async def ignores_cancellations(value=None):
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return "carried on"


async def fails_when_cancelled(value=None):
    try:
        await asyncio.sleep(3600)
    finally:
        raise LookupError("the clean-up failed")


@CANCELLED_INSIDE
@pytest.mark.parametrize("function", [ignores_cancellations, fails_when_cancelled])
@pytest.mark.parametrize("failure", ["collect", "fail_fast"])
@pytest.mark.parametrize("role", ["executor", "checker", "hook", "call", "policy", "nested"])
def test_no_function_holds_up_the_end_of_its_run(role, failure, function):
    async def policy(planning):
        with suppress(LookupError):
            if role == "call":
                await planning.call(function, "value")
        if role == "policy" or planning.depth:
            await function("value")
        yield Plan.of("one", "two", nested=policy if role == "nested" and not planning.depth else None)
        yield Plan.of("three")
        yield Answer(value="done")

    async def at_once(value=None):
        return "result"

    sprint = Sprint(
        FakeEngine(answers),
        policy=policy,
        executor=function if role == "executor" else at_once,
        checker=function if role == "checker" else None,
        hooks=Hooks(after_stage=function) if role == "hook" else None,
        failure=failure,
    )

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(DeadlineExceeded):
            await sprint.run("task", budget=Budget(seconds=1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await sprint.run("task")
        return loop.time(), len(asyncio.all_tasks())

    assert run_virtual(main()) == (2, 1)


@CANCELLED_INSIDE
def test_a_function_that_ignores_the_end_of_its_time_has_failed():
    limits = Limits(call_seconds=1)
    run = run_virtual(
        Sprint(FakeEngine(answers), policy=both, executor=ignores_cancellations, limits=limits).run("task")
    )
    assert [one.failure.message for one in run.stages[0].executions] == ["it took longer than 1 s"] * 2


@CANCELLED_INSIDE
def test_what_a_call_has_started_ends_with_its_run():
    ended = []

    async def executor(subtask):
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(subtask.number)

    async def main():
        with pytest.raises(DeadlineExceeded):
            await Sprint(FakeEngine(answers), policy=both, executor=executor, budget=Budget(seconds=1)).run("task")
        return sorted(ended), len(asyncio.all_tasks())

    assert run_virtual(main()) == ([1, 2], 1)


@pytest.mark.reported("UKGovernmentBEIS/inspect_ai#820")
@pytest.mark.parametrize("planner", [str, int, dict[str, int]])
def test_an_answer_without_a_text_is_an_invalid_result(planner):
    async def policy(planning):
        yield Answer(value=Unreadable())

    with pytest.raises(InvalidResult, match="whose repr raised RuntimeError"):
        Sprint(FakeEngine(answers), policy=policy, planner=Planner(planner)).run_sync("task")


def test_a_step_without_a_text_is_a_policy_error():
    async def policy(planning):
        yield Unreadable()

    with pytest.raises(PolicyError, match=r"not \(a Unreadable, whose repr raised RuntimeError"):
        Sprint(FakeEngine(answers), policy=policy).run_sync("task")


def test_an_attempt_without_a_text_is_reported():
    async def odd(planning):
        yield Answer(value=Unreadable())

    with pytest.raises(NoAnswer, match=r"1: InvalidResult: '\(a Unreadable, whose repr raised"):
        Sprint(FakeEngine(answers), policy=until(odd, lambda answer: False, attempts=2)).run_sync("task")


@pytest.mark.parametrize("moment", ["in the function", "after it"])
def test_a_coroutine_that_comes_too_late_is_closed(moment, recwarn):
    begun, end, made = threading.Event(), threading.Event(), threading.Event()

    async def verdict():
        return True

    def check(value):
        begun.set()
        end.wait()
        coroutine = verdict()
        made.set()
        return coroutine

    async def main():
        with Threads() as threads:
            call = asyncio.create_task(call_function(check, 1, threads=threads))
            await asyncio.to_thread(begun.wait)
            if moment == "after it":
                end.set()
                made.wait()
            call.cancel()
            await asyncio.wait([call])
            end.set()

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name == "sprint-agents function":
            thread.join()
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


@SURROGATES
@pytest.mark.parametrize("nested", [False, True])
def test_an_answer_with_half_a_surrogate_pair_is_escaped(nested):
    async def answers_itself(planning):
        yield Answer(value="caf\udce9")

    async def delegates(planning):
        stage = yield Plan.of("a", nested=answers_itself)
        yield Answer(value=stage.results[0])

    run = Sprint(FakeEngine(answers), policy=delegates if nested else answers_itself).run_sync("task")
    assert run.answer == "caf\\udce9"
    assert_survives(run)


def test_an_execution_that_is_cancelled_before_it_starts_leaves_no_coroutine_behind(recwarn):

    async def policy(planning):
        stage = yield planning.ask(accept=lambda execution: True)
        yield Answer(value=str(stage.accepted))

    async def cancel_after(moments):
        run = asyncio.create_task(sprint.run("task"))
        for _ in range(moments):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)

    plan = "".join(f"<prompt_1.{number}>{number}</prompt_1.{number}>" for number in range(1, 9))
    for moments in range(40):
        sprint = Sprint(FakeEngine(f"<Plan_1>{plan}</Plan_1>"), policy=policy, executor=lambda subtask: "result")
        asyncio.run(cancel_after(moments))
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
