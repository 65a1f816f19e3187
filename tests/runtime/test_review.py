"""The review of plans: what a reviewer sees and may change, and runs that pause until another process continues."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Answer, Limits, Plan, RunContext, Sprint, Subtask
from sprint_agents.budget import Budget
from sprint_agents.errors import (
    ConfigurationError,
    DeadlineExceeded,
    FunctionError,
    PlanPaused,
    ReviewTimeout,
)
from sprint_agents.events import ReviewAwaited, RunFinished, SubtaskStarted
from sprint_agents.testing import FakeEngine, Fault, run_virtual

Model = Callable[..., Any]


def prompts(run: Any, stage: int = 1) -> list[str]:
    return [execution.prompt for execution in run.stages[stage - 1].executions]


AS_JSON = {
    "planner, stage 1": '{"subtasks": [{"prompt": "read"}, {"prompt": "write"}]}',
    "executor": '{"result": "found"}',
    "planner, stage 2": '{"answer": "ok"}',
}


def check_prefixes(engine: FakeEngine) -> None:
    """Every request extends a context that the planner had, or has later."""
    contexts = sorted((one.request.context.text for one in engine.requests), key=len)
    last = contexts[-1]
    heads = [text.rpartition("<execution_")[0] for text in contexts if text.rstrip().endswith(">")]
    assert all(last.startswith(head.rstrip("\n")) for head in heads)


class TestVerdicts:
    def test_nothing_starts_before_the_verdict(self, model: Model) -> None:
        started: list[int] = []

        async def review(context: RunContext[str], plan: Plan) -> None:
            await asyncio.sleep(50)
            started.append(len(engine.requests))
            assert (context.deps, context.stage) == ("ada", 1)
            assert plan == Plan.of("one", "two", text="thinking")

        engine = FakeEngine(model(["one", "two"]))
        run = run_virtual(Sprint(engine).run("task", review=review, deps="ada"))
        assert started == [1]
        assert prompts(run) == ["one", "two"]
        assert run.stages[0].proposed is None
        assert run.stages[0].executions[0].plan_tokens == run.stages[0].calls[0].usage.generated_tokens
        assert run.transcript == Sprint(FakeEngine(model(["one", "two"]))).run_sync("task").transcript
        check_prefixes(engine)

    @pytest.mark.parametrize("dialect", ["tags", "json"])
    @pytest.mark.parametrize(
        "plan",
        [
            Plan.of("read"),
            Plan.of("read twice", "write"),
            Plan.of("read", "write", "check", after={3: [1, 2]}, text="carefully"),
        ],
    )
    def test_another_plan_takes_its_place_in_the_context(self, model: Model, dialect: Any, plan: Plan) -> None:
        engine = FakeEngine(AS_JSON if dialect == "json" else model(["read", "write"]))
        run = Sprint(engine, dialect=dialect).run_sync("task", review=lambda proposed: plan)
        stage = run.stages[0]
        assert prompts(run) == [subtask.prompt for subtask in plan.subtasks]
        assert stage.proposed is not None
        assert [subtask.prompt for subtask in stage.proposed.subtasks] == ["read", "write"]
        assert stage.plan == plan.text
        last = engine.requests[-1].request.context.text
        assert all(execution.succeeded and execution.prompt in last for execution in stage.executions)
        assert ("write" in last.partition("task")[2]) == any("write" in one.prompt for one in plan.subtasks)
        assert stage.usage.total.generated_tokens == run.usage.total_tokens - run.stages[1].usage.total.generated_tokens
        assert stage.usage.sequential_tokens_strict >= stage.calls[0].usage.generated_tokens

    def test_the_plans_of_a_policy_are_reviewed_too_and_nested_ones_are_not(self) -> None:
        seen: list[str] = []

        def review(plan: Plan) -> Plan:
            seen.append(plan.subtasks[0].prompt)
            return Plan.of("outer, reviewed")

        async def inner(planning):
            stage = yield Plan.of("inner")
            yield Answer(value=stage.results[0])

        async def policy(planning):
            stage = yield Plan.of("outer", nested=inner)
            yield Answer(value=f"{stage.executions[0].prompt}: {stage.results[0]}")

        sprint = Sprint(FakeEngine(""), policy=policy, executor=lambda subtask: f"did {subtask.prompt}")
        assert sprint.run_sync("task", review=review).answer == "outer, reviewed: did inner"
        assert seen == ["outer"]
        outer = Sprint(FakeEngine(""), policy=policy, executor=sprint)
        assert outer.run_sync("task", review=review).answer
        assert seen == ["outer", "outer"]

    def test_a_stream_tells_that_a_plan_waits(self, model: Model) -> None:

        async def main() -> None:
            verdict: asyncio.Future[Plan] = asyncio.get_running_loop().create_future()

            async def review(plan: Plan) -> Plan:
                return await verdict

            kinds: list[type] = []
            async with Sprint(FakeEngine(model(["one", "two"]))).stream("task", review=review) as events:
                async for event in events:
                    if isinstance(event, ReviewAwaited):
                        verdict.set_result(Plan(subtasks=event.plan.subtasks[:1]))
                    if isinstance(event, ReviewAwaited | SubtaskStarted | RunFinished):
                        kinds.append(type(event))
            assert kinds == [ReviewAwaited, SubtaskStarted, RunFinished]

        asyncio.run(main())


class TestFailures:
    @pytest.mark.parametrize(
        ("verdict", "message"),
        [
            (ValueError("no time"), "review= of plan 1 failed, ValueError: no time"),
            (True, "review= returned True: return a Plan, or None for the plan as it is"),
            (Plan(), "review= returned a plan without subtasks"),
            (
                Plan(subtasks=(Subtask(number=2, prompt="x"),)),
                "a plan that cannot be carried out: the subtasks of plan 1 are not numbered 1, 2, 3",
            ),
            (Plan.of("x", after={1: [4]}), "a plan that cannot be carried out: subtask 1.1 waits for 1.4"),
        ],
    )
    def test_a_reviewer_that_fails_ends_the_run(self, model: Model, verdict: Any, message: str) -> None:
        def review(plan: Plan) -> Any:
            if isinstance(verdict, Exception):
                raise verdict
            return verdict

        engine = FakeEngine(model(["one"]))
        with pytest.raises(FunctionError) as failed:
            Sprint(engine).run_sync("task", review=review)
        assert message in str(failed.value)
        assert failed.value.run is not None
        assert failed.value.run.stages[0].interrupted
        assert (len(engine.requests), engine.account().running) == (1, 0)

    def test_a_reviewer_that_never_answers(self, model: Model) -> None:
        async def review(plan: Plan) -> None:
            await asyncio.Event().wait()

        async def main(error: type[Exception], **options: Any) -> None:
            engine = FakeEngine(model(["one"]))
            with pytest.raises(error):
                await Sprint(engine).run("task", review=review, **options)
            assert len(asyncio.all_tasks()) == 1
            assert engine.account().running == 0

        run_virtual(main(ReviewTimeout, limits=Limits(review_seconds=60)))
        run_virtual(main(DeadlineExceeded, budget=Budget(seconds=60)))

    def test_wrong_uses(self, model: Model, tmp_path: Path) -> None:
        sprint = Sprint(FakeEngine(model(["one"])))
        for review in ("pause", Plan.of("x")):
            with pytest.raises(ConfigurationError, match="needs a journal, which keeps the plan: pass journal="):
                sprint.run_sync("task", review=review)
        with pytest.raises(ConfigurationError, match="the run of this journal has not paused"):
            sprint.run_sync("task", review=Plan.of("x"), journal=tmp_path / "journal")
        with pytest.raises(ConfigurationError, match="review= is 'no': pass"):
            sprint.run_sync("task", review="no")  # type: ignore[arg-type]


class TestJournals:
    def test_a_verdict_is_not_asked_for_again(self, model: Model, tmp_path: Path) -> None:
        asked: list[int] = []

        def review(plan: Plan) -> Plan:
            asked.append(len(plan.subtasks))
            return Plan.of("one", "three")

        path = tmp_path / "journal"
        engine = FakeEngine(model(["one", "two"]), faults={3: Fault.drop()})
        with pytest.raises(Exception, match=r"1\.[12] failed"):
            Sprint(engine, failure="fail_fast").run_sync("task", review=review, journal=path)
        engine = FakeEngine(model(["one", "two"]))
        run = Sprint(engine, failure="fail_fast").run_sync("task", journal=path)  # the verdict holds without a reviewer
        assert asked == [2]
        assert prompts(run) == ["one", "three"]
        assert run.transcript == Sprint(FakeEngine(model(["one", "two"]))).run_sync("task", review=review).transcript

    def test_a_plan_that_is_partly_carried_out_is_not_reviewed(self, model: Model, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        engine = FakeEngine(model(["one", "two"]), faults={3: Fault.drop()})
        with pytest.raises(Exception, match=r"1\.2 failed"):
            Sprint(engine, failure="fail_fast").run_sync("task", journal=path)
        run = Sprint(FakeEngine(model(["one", "two"])), failure="fail_fast").run_sync(
            "task", journal=path, review=lambda plan: Plan.of("three")
        )
        assert prompts(run) == ["one", "two"]

    @pytest.mark.parametrize("change", [True, False])
    def test_a_paused_run_continues_in_another_process(self, model: Model, tmp_path: Path, change: bool) -> None:
        path = tmp_path / "journal"
        engine = FakeEngine(model(["one", "two"], ["three"]))
        with pytest.raises(PlanPaused, match="plan 1 waits for its review: resume with the journal") as paused:
            Sprint(engine).run_sync("task", review="pause", journal=path)
        assert paused.value.run is not None
        assert [subtask.prompt for subtask in paused.value.plan.subtasks] == ["one", "two"]

        engine = FakeEngine(model(["one", "two"], ["three"]))
        with pytest.raises(PlanPaused) as again:  # whoever asks again gets the same plan, for no request
            Sprint(engine).run_sync("task", review="pause", journal=path)
        assert again.value.plan == paused.value.plan
        assert engine.requests == ()
        plan = Plan.of("one", "two and a half") if change else again.value.plan
        with pytest.raises(PlanPaused, match="plan 2 waits") as second:
            Sprint(engine).run_sync("task", review=plan, journal=path)
        run = Sprint(engine).run_sync("task", review=second.value.plan, journal=path)
        assert prompts(run) == [subtask.prompt for subtask in plan.subtasks]
        assert prompts(run, 2) == ["three"]
        assert len(engine.requests) == 2 + 1 + 1 + 1

        def review(proposed: Plan) -> Plan | None:
            return plan if len(proposed.subtasks) == 2 else None

        whole = Sprint(FakeEngine(model(["one", "two"], ["three"]))).run_sync("task", review=review)
        assert run.transcript == whole.transcript
        assert run.usage.total_tokens == whole.usage.total_tokens
