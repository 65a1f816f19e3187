"""Stages that end when they may: who says so, what the planner then reads, and how many executions run at once."""

import pytest

from sprint_agents import Answer, Capabilities, Limits, Plan, Sprint
from sprint_agents.errors import EngineUnavailable, JournalError
from sprint_agents.manifest import Manifest
from sprint_agents.policies import first_success, interleaved, self_consistency
from sprint_agents.settles import Settles
from sprint_agents.step_costs import StepCosts
from sprint_agents.testing import FakeEngine, Reply, run_virtual
from sprint_agents.wrapped_engine import WrappedEngine

SECONDS = {1: 5, 2: 4, 3: 2, 4: 9}
FIRST, IN_ORDER = Settles(holds="found"), Settles(holds="found", in_order=True)
COSTS = StepCosts(seconds={1: 2, 4: 4, 12: 6})


def execute(_, number):
    """The third is the first to find something; the second finds something too, before the first ends with nothing."""
    return Reply("found\n" if number in (2, 3) else "nothing\n", delay=SECONDS.get(number, 1))


def engine_of(model, *, prompts=4, manifest=None, costs=None, **options):
    capabilities = Capabilities(continues=True, step_costs=costs)
    script = model([f"p{number}" for number in range(1, prompts + 1)], execute=execute)
    return FakeEngine(script, manifest=manifest, capabilities=capabilities, **options)


def solve(engine, **options):
    return run_virtual(Sprint(engine, dialect="tags", **options).run("question"))


def outcomes(stage):
    return [execution.failure.type if execution.failure else execution.text.strip() for execution in stage.executions]


def test_the_first_to_finish_settles_a_stage(model):
    run = solve(engine_of(model), settles=FIRST)
    assert run.stages[0].accepted == 3
    assert outcomes(run.stages[0]) == ["Superseded", "Superseded", "found", "Superseded"]
    assert "<Execution_1>\n<execution_1.3>\nfound\n</execution_1.3>\n</Execution_1>" in run.transcript
    assert run.usage.seconds == 2


def test_in_order_the_planner_reads_the_plan_up_to_the_first_that_settles_it(model):
    engine = engine_of(model)
    run = solve(engine, settles=IN_ORDER)
    assert run.stages[0].accepted == 2
    assert outcomes(run.stages[0]) == ["nothing", "found", "found", "Superseded"]
    joined = "<execution_1.1>\nnothing\n</execution_1.1>\n<execution_1.2>\nfound\n</execution_1.2>\n</Execution_1>"
    assert joined in run.transcript
    assert "<execution_1.3>" not in run.transcript
    assert run.usage.seconds == 5  # the first; the fourth, which takes 9, was aborted after 2
    assert engine.account().aborted == 1


@pytest.mark.parametrize("places", [1, 2, 3, 4])
def test_in_order_the_planner_reads_the_same_at_every_width(model, places):
    run = solve(engine_of(model), settles=IN_ORDER, limits=Limits(concurrency=places))
    assert run.transcript == solve(engine_of(model), settles=IN_ORDER).transcript
    assert run.stages[0].concurrency == places


def test_in_order_a_failure_before_the_settling_execution_is_read(model):
    class Failing(WrappedEngine):
        async def complete(self, request):
            if request.context.text.endswith("<execution_1.1>\n"):
                raise EngineUnavailable("gone")
            async for chunk in super().complete(request):
                yield chunk

    run = solve(Failing(engine_of(model)), settles=IN_ORDER)
    assert run.stages[0].accepted == 2
    assert (
        "<execution_1.1>\n[failed: EngineUnavailable: gone]\n</execution_1.1>\n<execution_1.2>\nfound" in run.transcript
    )


def test_a_checkpoint_says_what_settles_its_stages(model):
    manifest = Manifest(model="searcher", settles=FIRST)
    assert solve(engine_of(model, manifest=manifest)).stages[0].accepted == 3
    assert solve(engine_of(model, manifest=manifest), settles="nothing").stages[0].accepted == 1
    assert solve(engine_of(model, manifest=manifest), settles=False).stages[0].accepted is None
    policy = first_success(interleaved, lambda execution: execution.number == 4)
    assert solve(engine_of(model, manifest=manifest), policy=policy).stages[0].accepted == 4


def test_a_policy_may_say_that_nothing_settles_a_stage(model):
    async def whole(planning):
        stage = yield planning.ask(accept=None)
        assert stage.accepted is None
        stage = yield planning.ask()
        yield Answer(value=stage.answer)

    assert solve(engine_of(model), policy=whole, settles=FIRST).answer == "done"


def test_the_rule_is_about_plans_of_the_model_for_the_task_itself(model):
    async def own(planning):
        stage = yield Plan.of("a", "b")
        assert stage.accepted is None
        yield Answer(value="done")

    solve(engine_of(model), policy=own, settles="found")
    run = solve(engine_of(model), policy=self_consistency(2, policy=interleaved), settles=FIRST)
    assert [attempt.stages[0].accepted for attempt in run.stages[0].executions] == [3, 3]

    async def function(subtask):  # in threads, luck would say which one is first
        return "found"

    manifest = Manifest(model="searcher", settles=FIRST)
    assert solve(engine_of(model, manifest=manifest), executor=function).stages[0].accepted is None
    assert solve(engine_of(model, manifest=manifest), executor=function, settles=FIRST).stages[0].accepted == 1


@pytest.mark.parametrize("chance", [0.1, 0.25, 0.5, 1])
def test_as_many_run_at_once_as_pays(model, chance):
    engine = engine_of(model, prompts=20, costs=COSTS)
    run = solve(engine, settles=Settles(holds="found", chance=chance))
    started = [execution.started for execution in run.stages[0].executions]
    assert started == sorted(started)
    assert started.count(0) == COSTS.width(chance=chance)


def test_more_run_at_once_after_each_execution_that_does_not_settle_the_stage(model):
    rule = Settles(holds="never", chance=0.5)
    run = solve(engine_of(model, prompts=8, costs=COSTS), settles=rule)
    widths = [COSTS.width(chance=rule.chance_after(missed)) for missed in range(2)]
    assert widths == [2, 6]
    # Of the first two, which take 5 and 4 seconds, the second ends first. Five others start beside the first then.
    assert [execution.started for execution in run.stages[0].executions] == [0, 0, 4, 4, 4, 4, 4, 5]


def test_all_run_at_once_if_nothing_settles_the_stage_or_the_user_says_how_many(model):
    assert solve(engine_of(model, costs=COSTS)).stages[0].concurrency is None
    assert solve(engine_of(model, costs=COSTS), settles=FIRST).stages[0].concurrency == 6
    bounded = solve(engine_of(model, costs=COSTS), settles=FIRST, limits=Limits(concurrency=3))
    assert bounded.stages[0].concurrency == 3
    assert solve(engine_of(model), settles=FIRST).stages[0].concurrency is None


@pytest.mark.parametrize("rule", [FIRST, IN_ORDER])
def test_a_run_resumes_with_the_same_result_from_every_record(model, tmp_path, rule):
    path = tmp_path / "run.jsonl"

    def go():
        sprint = Sprint(engine_of(model, costs=COSTS), dialect="tags", settles=rule)
        return run_virtual(sprint.run("question", journal=path))

    first = go()
    lines = path.read_bytes().splitlines(keepends=True)
    for end in range(1, len(lines)):
        path.write_bytes(b"".join(lines[:end]))
        again = go()
        if rule.in_order:
            assert again.transcript == first.transcript
            assert again.stages[0].accepted == first.stages[0].accepted
        assert again.answer == first.answer


def test_a_run_does_not_resume_under_another_rule(model, tmp_path):
    path = tmp_path / "run.jsonl"
    sprint = Sprint(engine_of(model), dialect="tags", settles=FIRST)
    run_virtual(sprint.run("question", journal=path))
    other = Sprint(engine_of(model), dialect="tags", settles=IN_ORDER)
    with pytest.raises(JournalError, match="Changed since: what settles a stage"):
        run_virtual(other.run("question", journal=path))
