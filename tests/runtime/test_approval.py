"""Approval of tool calls: a branch waits for a person, and only that branch."""

import asyncio
from typing import Any

import pytest

from sprint_agents import Executor, Limits, RunContext, Sprint, Tool
from sprint_agents.dialects.completions import ToolCall
from sprint_agents.errors import ConfigurationError, ExecutionFailed, ReviewTimeout
from sprint_agents.testing import FakeEngine, run_virtual


def plan(*prompts: str) -> str:
    return '{"subtasks": [' + ", ".join(f'{{"prompt": "{prompt}"}}' for prompt in prompts) + "]}"


def sprint(approve: Any, *, prompts: int = 1, calls: int = 1, limits: Limits | None = None, **options: Any) -> Any:
    """A run whose first subtask drops tables, and whose others give their results at once."""
    dropped: list[str] = []

    def drop(table: str) -> str:
        """Drop a table."""
        dropped.append(table)
        return f"{table} is gone"

    many = ", ".join('{"tool": "drop", "arguments": {"table": "loans"}}' for _ in range(calls))

    def reply(prompt: Any) -> str:
        text = prompt.text
        if "executor 1.1" in text[-300:] or "tool" in text[-200:]:
            return '{"result": "done"}' if "is gone" in text or "refused" in text else f'{{"call": [{many}]}}'
        if "executor" in text[-300:]:
            return '{"result": "at once"}'
        return plan(*map(str, range(prompts))) if "stage 1" in text[-300:] else '{"answer": "ok"}'

    executor = Executor(str, tools=[Tool.of(drop, approve=approve)])
    made = Sprint(FakeEngine(reply), executor=executor, dialect="json", limits=limits, **options)
    return made, dropped


def execution(run: Any, number: int = 1) -> Any:
    return run.stages[0].executions[number - 1]


class TestVerdicts:
    def test_an_approved_call_is_made(self) -> None:
        seen: list[tuple[int | None, ToolCall]] = []

        def approve(context: RunContext[str], call: ToolCall) -> bool:
            seen.append((context.number, call))
            return context.deps == "ada"

        made, dropped = sprint(approve)
        run = made.run_sync("task", deps="ada")
        assert dropped == ["loans"]
        assert seen == [(1, ToolCall("drop", '{"table": "loans"}'))]
        assert not execution(run).tool_uses[0].refused

    @pytest.mark.parametrize(
        ("verdict", "text"),
        [(False, '"this call was refused"'), ("we need it", '"this call was refused: we need it"')],
    )
    def test_the_model_reads_that_a_call_was_refused(self, verdict: Any, text: str) -> None:
        async def approve(call: ToolCall) -> Any:
            return verdict

        made, dropped = sprint(approve)
        run = made.run_sync("task")
        (use,) = execution(run).tool_uses
        assert (use.text, use.failed, use.refused) == (text, True, True)
        assert execution(run).value == "done"
        assert dropped == []

    def test_it_is_not_asked_about_arguments_that_are_wrong(self) -> None:
        def approve(call: ToolCall) -> bool:
            raise AssertionError

        tool = Tool.of(len_of, approve=approve)
        assert run_virtual(tool.use('{"word": 3}', seconds=1)).failed

    def test_missing_deps_are_refused_before_the_run(self) -> None:
        def approve(context: RunContext[int], call: ToolCall) -> bool:
            return True

        with pytest.raises(ConfigurationError, match="pass an int, which approve= of tool 'drop' reads"):
            sprint(approve)[0].run_sync("task")


def len_of(word: str) -> int:
    """Count letters."""
    return len(word)


class TestWaiting:
    @pytest.mark.parametrize("calls", [1, 2])
    def test_only_the_branch_that_asks_waits(self, calls: int) -> None:
        others: list[int] = []

        async def approve(call: ToolCall) -> bool:
            await asyncio.sleep(100)
            others.append(made.engine.account().finished)
            return True

        made, dropped = sprint(approve, prompts=3, calls=calls, limits=Limits(concurrency=1))
        run = run_virtual(made.run("task"))
        assert others == [4] * calls  # the plan, the call, and both other executions
        assert [each.value for each in run.stages[0].executions] == ["done", "at once", "at once"]
        assert dropped == ["loans"] * calls

    def test_an_approver_that_never_answers_fails_its_execution(self) -> None:
        async def approve(call: ToolCall) -> bool:
            await asyncio.Event().wait()
            return True

        limits = Limits(review_seconds=60, concurrency=1)
        made, dropped = sprint(approve, prompts=2, limits=limits)
        run = run_virtual(made.run("task"))
        assert execution(run).failure.type == ReviewTimeout.__name__
        assert "approve= of tool 'drop' gave no answer within 60 s" in execution(run).failure.message
        assert execution(run, 2).value == "at once"
        assert dropped == []
        with pytest.raises(ExecutionFailed) as failed:
            run_virtual(sprint(approve, limits=limits, failure="fail_fast")[0].run("task"))
        assert isinstance(failed.value.__cause__, ReviewTimeout)

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (ValueError("no such user"), "approve= of tool 'drop' failed, ValueError: no such user"),
            (None, "approve= of tool 'drop' returned None: return True, False, or a text"),
        ],
    )
    def test_an_approver_that_fails_fails_its_execution(self, answer: Any, message: str) -> None:
        def approve(call: ToolCall) -> Any:
            if answer is not None:
                raise answer

        made, dropped = sprint(approve, prompts=2, calls=2)
        run = made.run_sync("task")
        assert (execution(run).failure.type, execution(run, 2).failure) == ("FunctionError", None)
        assert execution(run).failure.message.startswith(message)
        assert dropped == []

    def test_a_cancelled_run_leaves_nothing(self) -> None:
        asked = asyncio.Event()

        async def approve(call: ToolCall) -> bool:
            asked.set()
            await asyncio.Event().wait()
            return True

        async def main() -> None:
            made, _ = sprint(approve, limits=Limits(concurrency=1))
            run = asyncio.create_task(made.run("task"))
            await asked.wait()
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert made.engine.account().running == 0
            assert len(asyncio.all_tasks()) == 1

        run_virtual(main())
