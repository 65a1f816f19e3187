"""Runs to show: one with everything that a chart draws, and one whose every text is hostile."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from sprint_agents import Answer, Executor, Limits, Plan, Planning, Run, Sprint, Stage, Step
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


async def look_up(word: str) -> str:
    """Look a word up."""
    await asyncio.sleep(2)
    return word + HOSTILE


async def inner(planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
    """Two parts."""
    yield Plan.of("left", "right")
    yield Answer(value="both")


async def everything(planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
    """Dependencies, tools, a retry, a failure, a wait for a place, and a policy within."""
    yield Plan.of("first", "second" + HOSTILE, "third", after={3: (1, 2)})
    yield Plan.of("nested", nested=inner)
    yield Answer(value="done" + HOSTILE)


@pytest.fixture(scope="session")
def run() -> Run[Any, Any]:
    replies = {
        "first": ['{"call": [{"tool": "look_up", "arguments": {"word": "a"}}]}', '{"result": "one"}'],
        "second": [Reply("", fault=Fault.drop()), '{"result": "two"}'],
        "third": [Reply("", fault=Fault.drop())] * 3,
        "left": '{"result": "l"}',
        "right": '{"result": "r"}',
    }
    engine = FakeEngine(replies, latency=Latency(token=1))
    sprint = Sprint(
        engine,
        policy=everything,
        executor=Executor(str, tools=[look_up], attempts=1),
        dialect="json",
        failure="retry",
        limits=Limits(concurrency=1),
    )
    return run_virtual(sprint.run("Show everything. " + HOSTILE))


@pytest.fixture(scope="session")
def early() -> Run[Any, Any]:
    """A run whose model plans, so that executors start within the planner's bar."""
    plan = "<Plan_1>\nTwo parts.\n<prompt_1.1>6*7</prompt_1.1>\n<prompt_1.2>100/4</prompt_1.2>\nThat is all.\n</Plan_1>"
    replies = {
        "": plan,
        "<execution_1.1>": "it is 6 + 6 + 6 + 6 + 6 + 6 + 6 = 42",
        "<execution_1.2>": "25",
        "</Execution_1>": r"<Final_answer>\boxed{67}</Final_answer>",
    }
    return run_virtual(Sprint(FakeEngine(replies, latency=Latency(token=1))).run("What is 6*7 + 100/4?"))


@pytest.fixture(scope="module")
def browser(run, early):
    """A real browser, where there is one; its loop runs in this thread, so the runs come first."""
    play = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    with play.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
