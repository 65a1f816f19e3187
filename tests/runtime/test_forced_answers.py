"""A budget that nears its end leaves room for an answer, which the planner then has to give."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Budget, Sprint
from sprint_agents.budget import Ledger
from sprint_agents.errors import BudgetExceeded, DeadlineExceeded
from sprint_agents.testing import FakeEngine, Reply, run_virtual

Model = Callable[..., Any]
ENDLESS = [[f"{stage} one", f"{stage} two"] for stage in range(30)]


def forms(run: Any) -> list[str]:
    return ["answer" if stage.answer is not None else "plan" for stage in run.stages]


def long(stage: int, number: int) -> str:
    return "word " * 40


class TestTokens:
    @pytest.mark.parametrize("tokens", range(60, 400, 17))
    def test_what_is_kept_is_enough_at_any_size(self, model: Model, tokens: int) -> None:
        engine = FakeEngine(model(*ENDLESS, execute=long))
        run = Sprint(engine, budget=Budget(tokens=tokens, answer_tokens=20)).run_sync("task")
        assert run.answer == "done"
        assert run.usage.total_tokens <= tokens
        assert forms(run)[-1] == "answer"
        assert run.usage.total_tokens - run.stages[-1].usage.total.generated_tokens <= tokens - 20

    def test_without_it_the_run_fails(self, model: Model) -> None:
        with pytest.raises(BudgetExceeded):
            Sprint(FakeEngine(model(*ENDLESS, execute=long)), budget=Budget(tokens=100)).run_sync("task")

    def test_a_ledger_keeps_tokens_until_the_answer_begins(self) -> None:
        async def main() -> None:
            ledger = Ledger(Budget(tokens=100, answer_tokens=30))
            assert await ledger.reserve_tokens(100) == 70
            ledger.settle(reserved=70, used=70)
            assert (ledger.spent, ledger.nears_end, ledger.tokens_left) == (True, True, 30)
            with pytest.raises(BudgetExceeded, match="100 generated tokens is spent but for 30 that are kept"):
                await ledger.reserve_tokens(1)
            ledger.begin_answer()
            assert await ledger.reserve_tokens(100) == 30

        asyncio.run(main())


class TestOtherBounds:
    def test_the_last_call_is_the_answer(self, model: Model) -> None:
        run = Sprint(FakeEngine(model(*ENDLESS)), budget=Budget(calls=7)).run_sync("task")
        assert forms(run) == ["plan", "plan", "answer"]
        assert run.usage.calls == 7

    def test_a_plan_that_could_start_nothing_is_not_asked_for(self, model: Model) -> None:
        run = Sprint(FakeEngine(model(*ENDLESS)), budget=Budget(subtasks=4)).run_sync("task")
        assert forms(run) == ["plan", "plan", "answer"]

    def test_when_the_time_is_almost_over(self, model: Model) -> None:
        def slow(stage: int, number: int) -> Reply:
            return Reply("result\n", delay=10)

        budget = Budget(seconds=35, answer_seconds=10)
        run = run_virtual(Sprint(FakeEngine(model(*ENDLESS, execute=slow)), budget=budget).run("task"))
        assert forms(run) == ["plan", "plan", "plan", "answer"]
        with pytest.raises(DeadlineExceeded):
            run_virtual(Sprint(FakeEngine(model(*ENDLESS, execute=slow)), budget=Budget(seconds=35)).run("task"))

    @pytest.mark.parametrize("failure", ["collect", "fail_fast"])
    def test_executions_that_hang_leave_time_for_an_answer(self, model: Model, failure: Any) -> None:
        def hang(stage: int, number: int) -> Reply | str:
            return Reply("never", delay=1000) if number == 2 else "found\n"

        engine = FakeEngine(model(["one", "two"], execute=hang))
        budget = Budget(seconds=60, answer_seconds=10)
        run = run_virtual(Sprint(engine, budget=budget, failure=failure).run("task"))
        first, second = run.stages[0].executions
        assert (first.value, run.answer) == ("found", "done")
        assert (second.failure.type, round(second.ended)) == ("DeadlineExceeded", 50)
        assert "the run's last 10 s are for the answer" in engine.requests[-1].request.context.text
        assert engine.account().running == 0

    def test_a_resumed_run_goes_on_with_the_form_that_it_had(self, model: Model, tmp_path: Path) -> None:
        """What was planned before the process ended is carried out, although less is left of the time by now."""
        path = tmp_path / "journal"
        engine = FakeEngine(model(["one"], ["two"], execute=lambda stage, number: Reply("x\n", delay=100 * stage)))
        sprint = Sprint(engine)
        with pytest.raises(DeadlineExceeded):
            run_virtual(sprint.run("task", journal=path, budget=Budget(seconds=150)))
        engine = FakeEngine(model(["one"], ["two"]))
        run = Sprint(engine).run_sync("task", journal=path, budget=Budget(seconds=150, answer_seconds=149))
        assert forms(run) == ["plan", "plan", "answer"]
        assert len(engine.requests) == 2
