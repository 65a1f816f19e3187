"""The library is silent until it is asked to log, and each message says which part of which run it is about."""

import asyncio
import contextvars
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from sprint_agents import Answer, Executor, Plan, Planner, Sprint
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.errors import EngineError, EngineUnavailable
from sprint_agents.logs import branch_in_logs, log, run_in_logs, stage_in_logs
from sprint_agents.policies import race, sequential, spawn_join
from sprint_agents.testing import FakeEngine, Fault, Reply, run_virtual

SILENT = pytest.mark.reported("meraki/dashboard-api-python#87", "alteryx/evalml#1273")
CORRELATED = pytest.mark.reported("BerriAI/litellm#31873")
TOKENS = pytest.mark.reported("openai/openai-agents-python#2246")

PRIVATE = "hunter2"
"""A word of the task, the model, the server and a function, which no message may show."""

ANSWER = "<Final_answer>\n\\boxed{4}\n</Final_answer>"

Entry = dict[str, Any]


@pytest.fixture
def logs() -> Iterator[list[Entry]]:
    """The messages of a test, as an application sees them that has configured structlog for all levels."""
    capture = LogCapture()
    structlog.configure(processors=[capture])
    yield capture.entries
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _no_configuration() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


async def both(planning):
    yield Plan.of("one", "two")
    yield Answer(value="done")


def at(entry: Entry) -> tuple[Any, Any, Any]:
    return entry.get("run"), entry.get("stage"), entry.get("branch")


def above_debug(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry["log_level"] != "debug"]


PROGRAM = """
from sprint_agents import Executor, Planner, Sprint
from sprint_agents.testing import FakeEngine, Fault, Reply

{before}
engine = FakeEngine([
    Reply("", fault=Fault.drop()),
    "<Plan_1>\\n<prompt_1.1>go</prompt_1.1>\\n</Plan_1>",
    "not a number</execution_1.1>", "no number</execution_1.1>",
    "<Final_answer>\\n\\\\boxed{{4}}\\n</Final_answer>",
])
run = Sprint(engine, planner=Planner(int), executor=Executor(int), failure="retry").run_sync("What is 2+2?")
assert run.answer == 4 and run.usage.retries and run.stages[0].failures
{after}
"""


class TestSilence:
    @SILENT
    @pytest.mark.parametrize(
        "before",
        [
            "",
            "import structlog",
            "import structlog; structlog.get_logger()",
            "import logging; logging.basicConfig(level=logging.DEBUG)",
        ],
    )
    def test_nothing_is_written_until_the_application_configures_structlog(self, before: str) -> None:
        program = PROGRAM.format(before=before, after="")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr.replace("DEBUG:asyncio:Using selector: EpollSelector\n", "")) == ("", "")

    def test_a_message_does_not_import_structlog(self) -> None:
        after = "import sys; assert 'structlog' not in sys.modules"
        program = PROGRAM.format(before="", after=after)
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    @pytest.mark.parametrize("configured", ["structlog.configure()", "structlog.configure_once()"])
    def test_messages_appear_once_it_has(self, configured: str) -> None:
        program = PROGRAM.format(before=f"import structlog; {configured}", after="")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert "trying again" in done.stdout
        assert "execution.failed" in done.stdout

    def test_it_may_be_configured_while_a_run_is_active(self) -> None:
        capture = LogCapture()

        def executor(subtask: Any) -> str:
            structlog.configure(processors=[capture])
            raise OSError("no")

        Sprint(FakeEngine(ANSWER), policy=both, executor=executor).run_sync("go")
        assert "execution.failed" in [entry["event"] for entry in capture.entries]

    def test_through_the_standard_library(self) -> None:
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.render_to_log_kwargs,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        text = io.StringIO()
        handler = logging.StreamHandler(text)
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s %(run)s %(error)s"))
        logger = logging.getLogger("sprint_agents")
        logger.addHandler(handler)
        try:
            with run_in_logs("5e1f"):
                log("warning", "trying again", error=EngineUnavailable("gone"))
        finally:
            logger.removeHandler(handler)
        assert text.getvalue() == "sprint_agents WARNING trying again 5e1f EngineUnavailable\n"


class TestPlace:
    def test_of_a_retry_of_the_planner(self, logs: list[Entry]) -> None:
        engine = FakeEngine([Reply("", fault=Fault.drop()), ANSWER])
        run = Sprint(engine, failure="retry").run_sync("go")
        message, cause = logs
        assert at(message) == at(cause) == (run.id, 1, None)
        assert message["event"] == "trying again"
        assert message["attempt"] == 2
        assert message["wait"] >= 0
        assert message["error"] == "EngineUnavailable"
        assert "lost after 0 tokens" in cause["message"]

    def test_of_executions(self, logs: list[Entry]) -> None:
        replies = {
            "1.1>": Reply("", fault=Fault.drop()),
            "1.2>": "fine</execution_1.2>",
        }
        run = Sprint(FakeEngine(replies), policy=both, failure="retry").run_sync("go")
        found = [(entry["event"], at(entry)) for entry in above_debug(logs)]
        again, failed = ("trying again", (run.id, 1, "1.1")), ("execution.failed", (run.id, 1, "1.1"))
        assert found == [again, again, failed]

    def test_of_a_plan_that_was_odd(self, logs: list[Entry]) -> None:
        engine = FakeEngine(["<Plan_1>\n<prompt_1.1>go", "ok</execution_1.1>", "<Final_answer>\\boxed{4}"])
        run = Sprint(engine).run_sync("go")
        odd = [entry for entry in logs if entry["event"] == "plan.odd"]
        assert {diagnostic.kind for stage in run.stages for diagnostic in stage.diagnostics} == {
            entry["kind"] for entry in odd
        }
        assert odd[0]["log_level"] == "info"
        assert at(odd[0]) == (run.id, 1, None)

    @CORRELATED
    def test_of_runs_at_the_same_time(self, logs: list[Entry]) -> None:
        async def executor(subtask: Any) -> str:
            await asyncio.sleep(1)
            raise OSError("no")

        async def main() -> set[str]:
            sprint = Sprint(FakeEngine(""), policy=both, executor=executor)
            async with sprint.map([f"task {number}" for number in range(5)], concurrency=3) as runs:
                return {run.id async for run in runs}

        ids = run_virtual(main())
        assert len(ids) == 5
        found = sorted(at(entry) for entry in above_debug(logs))
        assert found == sorted((run, 1, branch) for run in ids for branch in ("1.1", "1.2"))

    @CORRELATED
    def test_in_a_nested_sprint_it_is_the_run_that_the_application_started(self, logs: list[Entry]) -> None:
        def fails(subtask: Any) -> str:
            raise OSError("no")

        inner = Sprint(FakeEngine(""), policy=both, executor=fails)
        run = Sprint(FakeEngine(""), policy=both, executor=inner).run_sync("go")
        found = sorted(at(entry) for entry in above_debug(logs))
        assert found == [(run.id, 1, f"1.{outer}/1.{number}") for outer in (1, 2) for number in (1, 2)]

    def test_a_run_that_a_function_starts_is_another_run(self, logs: list[Entry]) -> None:
        ids: list[str] = []

        def fails(subtask: Any) -> str:
            raise OSError("no")

        def in_a_thread(subtask: Any) -> str:
            run = Sprint(FakeEngine(""), policy=both, executor=fails).run_sync("inner")
            ids.append(run.id)
            raise OSError("no")

        run = Sprint(FakeEngine(""), policy=both, executor=in_a_thread).run_sync("go")
        found = sorted(at(entry) for entry in above_debug(logs))
        assert len({*ids, run.id}) == 3
        assert found == sorted((one, 1, branch) for one in [*ids, run.id] for branch in ("1.1", "1.2"))

    def test_in_nested_policies_and_attempts(self, logs: list[Entry]) -> None:
        def fails(subtask: Any) -> str:
            raise OSError("no")

        async def nested(planning):
            yield Plan.of("one", nested=both)
            yield Answer(value="done")

        run = Sprint(FakeEngine(""), policy=race(nested), executor=fails).run_sync("go")
        found = sorted({at(entry) for entry in above_debug(logs)})
        assert found == [(run.id, 1, "1.1/1.1/1.1"), (run.id, 1, "1.1/1.1/1.2")]

    def test_in_a_thread(self, logs: list[Entry]) -> None:
        def executor(subtask: Any) -> str:
            log("info", "inside")
            return "fine"

        run = Sprint(FakeEngine(""), policy=both, executor=executor).run_sync("go")
        assert sorted(at(entry) for entry in logs) == [(run.id, 1, "1.1"), (run.id, 1, "1.2")]

    @pytest.mark.parametrize("policy", [both, spawn_join(), race(sequential)])
    def test_ends_with_the_run(self, policy: Any, logs: list[Entry]) -> None:
        async def main() -> None:
            sprint = Sprint(FakeEngine(ANSWER), policy=policy)
            await sprint.run("go")
            log("info", "outside")

        asyncio.run(main())
        assert at(logs[-1]) == (None, None, None)

    def test_ends_with_a_failed_run(self, logs: list[Entry]) -> None:
        async def main() -> None:
            with pytest.raises(EngineError):
                await Sprint(FakeEngine([])).run("go")
            log("info", "outside")

        asyncio.run(main())
        assert at(logs[-1]) == (None, None, None)

    @TOKENS
    def test_of_a_run_that_is_closed_in_another_context(self) -> None:
        """A loop that is closed early leaves coroutines, which the garbage collector closes anywhere."""

        async def main() -> str:
            with run_in_logs("a"), stage_in_logs(1), branch_in_logs(2):
                await asyncio.sleep(0)
            return "never"

        coroutine = main()
        contextvars.copy_context().run(coroutine.send, None)
        contextvars.copy_context().run(coroutine.close)

    def test_is_added_to_what_the_application_binds(self) -> None:
        capture = LogCapture()
        structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
        with structlog.contextvars.bound_contextvars(request="42", run="of the application"), run_in_logs("5e1f"):
            log("info", "seen", count=2)
        (entry,) = capture.entries
        assert entry == {"event": "seen", "log_level": "info", "run": "5e1f", "request": "42", "count": 2}


class TestPrivateText:
    """Words of tasks, models, servers and functions are in messages at debug alone."""

    def assert_private(self, logs: list[Entry], *, events: set[str]) -> None:
        shown = above_debug(logs)
        assert {entry["event"] for entry in shown} == events
        assert PRIVATE not in json.dumps(shown, default=repr)
        assert PRIVATE in json.dumps(logs, default=repr)

    def test_of_a_model_whose_result_is_invalid(self, logs: list[Entry]) -> None:
        replies = ["<Plan_1>\n<prompt_1.1>go</prompt_1.1>\n</Plan_1>", f"{PRIVATE}</execution_1.1>"]
        replies += [f"my {PRIVATE}</execution_1.1>", ANSWER]
        Sprint(FakeEngine(replies), executor=Executor(int)).run_sync("go")
        self.assert_private(logs, events={"trying again", "execution.failed"})

    def test_of_a_model_whose_answer_is_invalid(self, logs: list[Entry]) -> None:
        replies = [f"<Final_answer>\n\\boxed{{{answer}}}\n</Final_answer>" for answer in (PRIVATE, "4")]
        run = Sprint(FakeEngine(replies), planner=Planner(int)).run_sync("go")
        self.assert_private(logs, events={"trying again", "plan.odd"})
        assert [(entry["event"], at(entry)) for entry in above_debug(logs)] == [
            ("trying again", (run.id, 1, None)),
            ("plan.odd", (run.id, 2, None)),
        ]

    def test_of_a_function(self, logs: list[Entry]) -> None:
        def executor(subtask: Any) -> str:
            raise OSError(f"{PRIVATE} is not the password")

        Sprint(FakeEngine(""), policy=both, executor=executor).run_sync("go")
        self.assert_private(logs, events={"execution.failed"})

    def test_of_a_server(self, logs: list[Entry]) -> None:
        error = EngineUnavailable(f"503: cannot read the prompt {PRIVATE!r}")
        engine = FakeEngine([Reply("", fault=Fault.error(error)), ANSWER])
        Sprint(engine, failure="retry").run_sync("go")
        self.assert_private(logs, events={"trying again"})

    def test_of_the_address_of_a_server(self, logs: list[Entry]) -> None:
        async def main() -> None:
            async with OpenAIEngine(f"http://user:{PRIVATE}@127.0.0.1:9/v1", model="m") as engine:
                with pytest.raises(EngineError):
                    await Sprint(engine, failure="retry").run(f"my {PRIVATE}")

        asyncio.run(main())
        assert logs
        assert PRIVATE not in json.dumps(logs, default=repr)
