"""Functions that block, hang or are slow: neither the event loop nor the run waits for them."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from sprint_agents import Answer, Budget, Executor, Limits, Plan, Sprint
from sprint_agents.errors import DeadlineExceeded, FunctionError, SprintError
from sprint_agents.policies import first_success, interleaved, race
from sprint_agents.testing import FakeEngine, run_virtual
from sprint_agents.tools import Tool

SYNC_IN_PARALLEL = pytest.mark.reported(
    "openai/openai-agents-python#2386", "microsoft/agent-framework#5773", "PrefectHQ/fastmcp#2865"
)
DEADLINE = pytest.mark.reported("mrilikecoding/llm-orc#158")
TIME_LIMIT = pytest.mark.reported("aden-hive/hive#6444")


def fan_out(width, **options):
    async def policy(planning):
        stage = yield Plan.of(*(f"part {number}" for number in range(width)), **options)
        yield Answer(value="done" if stage.results else "nothing")

    return policy


def answers(prompt):
    return "<Final_answer>done</Final_answer>"


@pytest.fixture
def released():
    """Set at the end of a test, so that no thread of it is left."""
    event = threading.Event()
    yield event
    event.set()


@SYNC_IN_PARALLEL
@pytest.mark.parametrize("width", [2, 40])
def test_sync_executors_run_at_the_same_time(width):
    together = threading.Barrier(width, timeout=60)

    def meet(subtask):
        together.wait()  # passes only if all calls are under way at the same time
        return threading.current_thread() is not threading.main_thread()

    run = Sprint(FakeEngine(answers), policy=fan_out(width), executor=meet).run_sync("task")
    assert run.stages[0].results == [True] * width


@SYNC_IN_PARALLEL
def test_sync_tools_run_at_the_same_time_whatever_the_machine():
    width = 40  # the event loop's own pool has at most 32 threads
    together = threading.Barrier(width, timeout=60)

    def meet() -> bool:
        """Wait for the others."""
        together.wait()
        return True

    def respond(prompt):
        return '{"result": "met"}' if "returned" in prompt.text else '{"call": [{"tool": "meet", "arguments": {}}]}'

    sprint = Sprint(FakeEngine(respond), policy=fan_out(width), executor=Executor(tools=[meet]), dialect="json")
    assert sprint.run_sync("task").stages[0].results == ["met"] * width


@SYNC_IN_PARALLEL
def test_the_threads_of_a_run_are_bounded_by_its_concurrency():
    active, most, lock = 0, 0, threading.Lock()

    def count(subtask):
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.002)
        with lock:
            active -= 1
        return "counted"

    sprint = Sprint(FakeEngine(answers), policy=fan_out(30), executor=count, limits=Limits(concurrency=3))
    assert len(sprint.run_sync("task").stages[0].results) == 30
    assert 1 < most <= 3


@SYNC_IN_PARALLEL
@pytest.mark.parametrize("role", ["executor", "accept", "keep", "checker", "check"])
def test_no_function_of_the_user_runs_on_the_loop(role):
    threads = []

    def function(value):
        threads.append(threading.current_thread())
        return [1] if role == "keep" else "yes"

    options = {role: function} if role in ("accept", "keep") else {}
    policy = race(interleaved, check=function) if role == "check" else fan_out(1, **options)
    agents = {role: function} if role in ("executor", "checker") else {"executor": as_it_is}
    Sprint(FakeEngine(answers), policy=policy, **agents).run_sync("task")
    assert threads
    assert threading.main_thread() not in threads


async def as_it_is(subtask):
    return subtask.prompt


@DEADLINE
@pytest.mark.parametrize("role", ["executor", "tool", "accept", "checker"])
def test_the_deadline_ends_a_run_whose_function_hangs(role, released):
    def hang(value=None):
        released.wait(60)
        return "late"

    def stuck() -> str:
        """Hang."""
        return hang()

    options = {
        "executor": {"policy": fan_out(3), "executor": hang},
        "tool": {"policy": fan_out(3), "executor": Executor(tools=[stuck]), "dialect": "json"},
        "accept": {"policy": fan_out(3, accept=hang), "executor": as_it_is},
        "checker": {"policy": fan_out(3), "executor": as_it_is, "checker": hang},
    }[role]
    call = '{"call": [{"tool": "stuck", "arguments": {}}]}'
    sprint = Sprint(FakeEngine(lambda prompt: call), budget=Budget(seconds=0.2), **options)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        sprint.run_sync("task")
    assert time.monotonic() - started < 30  # not until the threads end
    assert caught.value.run.error.type == "DeadlineExceeded"
    assert caught.value.run.answer == ("done" if role == "checker" else None)


@TIME_LIMIT
@pytest.mark.parametrize("kind", ["sync", "async", "sync that returns an awaitable"])
def test_a_function_executor_has_a_time_limit(kind, released):
    async def sleep(subtask):
        if subtask.number == 1:
            await asyncio.sleep(3600)
        return "quick"

    def wait(subtask):
        if subtask.number == 1:
            released.wait(60)
        return "quick"

    executor = {"sync": wait, "async": sleep}.get(kind, lambda subtask: sleep(subtask))
    sprint = Sprint(FakeEngine(answers), policy=fan_out(2), executor=executor, limits=Limits(call_seconds=0.5))
    slow, quick = sprint.run_sync("task").stages[0].executions
    assert slow.failure.type == "FunctionError"
    assert slow.failure.message == "it took longer than 0.5 s"
    assert quick.value == "quick"


@TIME_LIMIT
def test_the_time_limit_does_not_count_the_wait_for_a_thread(released):
    def work(subtask):
        released.wait(0.05)
        return "done"

    limits = Limits(concurrency=1, call_seconds=2.0)
    tool = Tool.of(lambda: work(None), name="work")

    async def use_tools():
        from sprint_agents.functions import Threads

        with Threads(1) as threads:
            uses = (tool.use("{}", seconds=2.0, threads=threads) for _ in range(60))
            return await asyncio.gather(*uses)

    assert not any(outcome.failed for outcome in asyncio.run(use_tools()))  # 3 s in all, one at a time
    run = Sprint(FakeEngine(answers), policy=fan_out(60), executor=work, limits=limits).run_sync("task")
    assert len(run.stages[0].results) == 60


@TIME_LIMIT
def test_threads_that_hang_do_not_starve_the_run(released):
    def work(subtask):
        if subtask.number <= 2:
            released.wait(60)
        return "done"

    limits = Limits(concurrency=2, call_seconds=0.5)
    run = Sprint(FakeEngine(answers), policy=fan_out(6), executor=work, limits=limits).run_sync("task")
    assert [execution.succeeded for execution in run.stages[0].executions] == [False, False, True, True, True, True]


@TIME_LIMIT
@pytest.mark.parametrize("role", ["accept", "keep", "checker"])
def test_a_check_has_a_time_limit(role, released):
    options = {role: lambda value: released.wait(60)} if role != "checker" else {}
    checker = {"checker": lambda answer: released.wait(60)} if role == "checker" else {}
    limits = Limits(call_seconds=0.1)
    sprint = Sprint(FakeEngine(answers), policy=fan_out(1, **options), executor=as_it_is, limits=limits, **checker)
    with pytest.raises(FunctionError if role == "checker" else Exception, match=r"it took longer than 0\.1 s"):
        sprint.run_sync("task")


@DEADLINE
def test_the_process_ends_while_a_thread_hangs():
    program = """
import threading
from sprint_agents import Answer, Limits, Plan, Sprint
from sprint_agents.testing import FakeEngine

async def policy(planning):
    stage = yield Plan.of("a")
    yield Answer(value=stage.failures[0].failure.message)

hang = lambda subtask: threading.Event().wait(600)
print(Sprint(FakeEngine("x"), policy=policy, executor=hang, limits=Limits(call_seconds=0.1)).run_sync("t").answer)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "it took longer than 0.1 s\n"
    assert done.stderr == ""


@DEADLINE
def test_ctrl_c_ends_a_run_whose_threads_hang():
    program = """
import signal, threading, os
from sprint_agents import Answer, Plan, Sprint
from sprint_agents.testing import FakeEngine

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore the signal

async def policy(planning):
    yield Plan.of("a", "b")
    yield Answer(value="never")

def hang(subtask):
    if subtask.number == 2:
        threading.Event().wait(0.5)  # the loop waits by then: a signal right before that would be seen only later
        os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(600)

try:
    Sprint(FakeEngine("x"), policy=policy, executor=hang).run_sync("t")
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


@SYNC_IN_PARALLEL
def test_no_thread_is_left_after_a_run():
    before = set(threading.enumerate())
    Sprint(FakeEngine(answers), policy=fan_out(20), executor=lambda subtask: "x").run_sync("task")
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


@SYNC_IN_PARALLEL
def test_context_variables_reach_the_threads():
    from contextvars import ContextVar

    user: ContextVar[str] = ContextVar("user")

    async def main():
        user.set("ada")
        sprint = Sprint(FakeEngine(answers), policy=fan_out(2), executor=lambda subtask: user.get())
        return (await sprint.run("task")).stages[0].results

    assert asyncio.run(main()) == ["ada", "ada"]


@pytest.mark.reported("generative-computing/mellea#1567", "flux0-ai/flux0#108", "UKGovernmentBEIS/inspect_ai#3962")
@pytest.mark.parametrize("concurrency", [1, 4])
def test_map_takes_tasks_only_as_their_runs_are_read(concurrency):
    taken = 0

    def tasks():
        nonlocal taken
        while True:
            taken += 1
            yield f"task {taken}"

    async def main():
        read = 0
        async with Sprint(FakeEngine(answers)).map(tasks(), concurrency=concurrency) as runs:
            async for _ in runs:
                read += 1
                assert taken <= read + concurrency
                await asyncio.sleep(0.05)
                assert taken <= read + concurrency
                if read == 20:
                    break
        return read

    assert run_virtual(main()) == 20


@SYNC_IN_PARALLEL
def test_of_executions_that_finish_together_the_first_is_accepted():
    async def verdict(execution):
        await asyncio.sleep(10 - execution.number)  # the later one is judged faster
        return execution.number > 1

    policy = first_success(fan_out(4), verdict)
    run = run_virtual(Sprint(FakeEngine(answers), policy=policy, executor=as_it_is).run("task"))
    assert run.stages[0].accepted == 2
    assert [execution.succeeded for execution in run.stages[0].executions] == [True] * 4  # finished, so kept


@pytest.mark.parametrize("stages", [1, 2, 5])
@pytest.mark.parametrize("answer", ["<Final_answer>4</Final_answer>", "nothing at all"])
def test_a_policy_that_ignores_every_answer_ends(stages: int, answer: str) -> None:
    """Without an end it would ask forever, on the event loop, where no deadline stops it."""

    async def policy(planning):
        while True:
            yield planning.ask()

    with pytest.raises(SprintError):
        Sprint(FakeEngine(answer), policy=policy, limits=Limits(stages=stages)).run_sync("task")
