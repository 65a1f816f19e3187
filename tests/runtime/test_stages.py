import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Answer, Limits, Plan, Sprint, Trajectory
from sprint_agents.errors import NoAnswer
from sprint_agents.events import ExecutionFinished, PlannerWrote, SubtaskStarted
from sprint_agents.testing import FakeEngine, Latency, Reply, run_virtual


def run(engine, task="question", **options):
    return run_virtual(Sprint(engine, **options).run(task))


def test_a_run_is_stages_of_plans_and_executions_then_an_answer(model):
    engine = FakeEngine(model(["first", "second"], ["third"], answer="42"))
    result = run(engine)
    assert result.answer == "42"
    assert [[execution.value for execution in stage.executions] for stage in result.stages] == [
        ["result 1.1", "result 1.2"],
        ["result 2.1"],
        [],
    ]
    assert result.error is None
    assert result.verified is None
    assert result.transcript == (
        "question\n"
        "<Plan_1>\nthinking\n<prompt_1.1>first</prompt_1.1>\n<prompt_1.2>second</prompt_1.2>\n</Plan_1>\n"
        "<Execution_1>\n<execution_1.1>\nresult 1.1\n</execution_1.1>\n"
        "<execution_1.2>\nresult 1.2\n</execution_1.2>\n</Execution_1>\n"
        "<Plan_2>\nthinking\n<prompt_2.1>third</prompt_2.1>\n</Plan_2>\n"
        "<Execution_2>\n<execution_2.1>\nresult 2.1\n</execution_2.1>\n</Execution_2>\n"
        "<Final_answer>\n\\boxed{42}\n</Final_answer>"
    )


def test_an_executor_sees_the_plan_up_to_its_own_prompt_and_no_sibling(model):
    seen = {}
    script = model(["first", "second"], ["third"])

    def respond(prompt):
        seen[prompt.text.rsplit("\n", 2)[-2]] = prompt.text
        return script(prompt)

    run(FakeEngine(respond))
    before = "question\n<Plan_1>\nthinking\n<prompt_1.1>first</prompt_1.1>"
    assert seen["<execution_1.1>"] == before + "\n<execution_1.1>\n"
    assert seen["<execution_1.2>"] == before + "\n<prompt_1.2>second</prompt_1.2>\n<execution_1.2>\n"
    assert "result 1.2\n</execution_1.2>\n</Execution_1>\n<Plan_2>" in seen["<execution_2.1>"]


def test_an_executor_starts_the_moment_its_prompt_closes(model):
    engine = FakeEngine(model(["a", "b", "c"]), latency=Latency(token=1.0))

    async def watch():
        async with Sprint(engine).stream("question") as stream:
            return [event async for event in stream]

    events = run_virtual(watch())
    started = next(i for i, e in enumerate(events) if isinstance(e, SubtaskStarted))
    written = "".join(e.text for e in events[:started] if isinstance(e, PlannerWrote))
    assert written.endswith("</prompt_1.1>")
    finished = next(i for i, e in enumerate(events) if isinstance(e, ExecutionFinished))
    assert any(isinstance(e, PlannerWrote) and "</Plan_" in e.text for e in events[finished:])


@given(st.permutations(range(5)))
def test_the_join_is_in_prompt_order_whatever_the_finishing_order(model, order):
    script = model(
        [f"task {number}" for number in range(5)],
        execute=lambda stage, number: Reply(f"result {number}\n", delay=float(order[number - 1])),
    )
    result = run(FakeEngine(script))
    assert [execution.value for execution in result.stages[0].executions] == [f"result {n}" for n in range(1, 6)]
    positions = [result.transcript.index(f"<execution_1.{number}>") for number in range(1, 6)]
    assert positions == sorted(positions)


def test_branches_run_at_the_same_time(model):
    script = model([str(n) for n in range(20)], execute=lambda stage, number: Reply("x\n", delay=10))
    result = run(FakeEngine(script))
    assert result.usage.seconds == pytest.approx(10)
    assert result.usage.width == 20


def test_the_concurrency_limit_holds(model):
    engine = FakeEngine(model([str(n) for n in range(10)], execute=lambda s, n: Reply("x\n", delay=1)))
    result = run(engine, limits=Limits(concurrency=3))
    assert engine.account().peak <= 3
    assert result.usage.seconds == pytest.approx(4)


def test_at_the_last_stage_the_answer_is_forced(model):
    engine = FakeEngine(model(*[["again"]] * 50, answer="forced"))
    result = run(engine, limits=Limits(stages=4))
    assert result.answer == "forced"
    assert len(result.stages) == 4
    assert result.transcript.endswith("</Execution_3>\n<Final_answer>\n\\boxed{forced}\n</Final_answer>")


def test_a_planner_that_loops_on_nonsense_ends_at_the_stage_limit():
    engine = FakeEngine(lambda prompt: "so, well, ")
    result = run(engine, limits=Limits(stages=3, answer_tokens=5))
    assert len(result.stages) == 3
    assert result.answer == "so, well,"
    assert {d.kind for stage in result.stages for d in stage.diagnostics} >= {"text_outside", "unclosed_answer"}


def test_a_model_that_never_closes_a_tag_ends_with_diagnostics_and_its_answer():
    def respond(prompt):
        return "word " * 1000 if "<Final_answer>" in prompt.text else "<Plan_1>\n<prompt_1.1>" + "go on " * 1000

    result = run(FakeEngine(respond), limits=Limits(stages=2, plan_tokens=50, answer_tokens=10))
    assert result.stages[0].executions == ()
    kinds = {"unclosed_prompt", "unclosed_plan", "cut_off", "nothing_written"}
    assert {d.kind for d in result.stages[0].diagnostics} == kinds
    assert result.stages[1].usage.total.generated_tokens == 10
    assert "</Plan_1>" in result.transcript


def test_an_execution_that_never_closes_is_cut_at_its_limit_and_joined(model):
    engine = FakeEngine(model(["a"], execute=lambda stage, number: "on and on " * 500))
    result = run(engine, limits=Limits(execution_tokens=7))
    assert result.stages[0].executions[0].usage.generated_tokens == 7
    assert "\n</execution_1.1>\n</Execution_1>" in result.transcript


def test_an_empty_answer_is_an_error_that_keeps_the_run():
    with pytest.raises(NoAnswer) as caught:
        run(FakeEngine(lambda prompt: "<Final_answer></Final_answer>"))
    assert len(caught.value.run.stages) == 2  # the second one corrects the first


def test_a_plan_without_prompts_goes_on_to_the_next_stage(model):
    result = run(FakeEngine(model([], ["a"], answer="x")))
    assert [len(stage.executions) for stage in result.stages] == [0, 1, 0]
    assert "</Plan_1>\n<Plan_2>" in result.transcript


def test_a_policy_writes_its_own_plan_as_a_planner_would(model):
    async def halves(planning):
        stage = yield Plan.of("left", "right", text="Both halves.")
        yield Answer(value=" and ".join(stage.results))

    engine = FakeEngine(model(["unused"]))
    result = run(engine, policy=halves)
    assert result.answer == "result 1.1 and result 1.2"
    assert result.policy == "halves"
    assert result.transcript.startswith(
        "question\n<Plan_1>\nBoth halves.\n<prompt_1.1>left</prompt_1.1>\n<prompt_1.2>right</prompt_1.2>\n</Plan_1>\n"
    )
    assert engine.account().started == 2


def test_the_sequential_policy_is_one_chain():
    seen = []

    def respond(prompt):
        seen.append(prompt.text)
        return "try this\nand that\n</think>\n<Final_answer>\n\\boxed{7}\n</Final_answer>"

    result = run(FakeEngine(respond), policy="sequential")
    assert seen == ["question\n<think>\n"]
    assert (result.answer, result.usage.stages, result.usage.calls) == ("7", 1, 1)
    assert result.usage.sequential_tokens_strict == result.usage.total_tokens


def test_a_chain_without_an_answer_is_asked_for_one():
    def respond(prompt):
        return "\\boxed{8}</Final_answer>" if prompt.text.endswith("<Final_answer>\n") else "hm " * 100

    result = run(FakeEngine(respond), policy="sequential", limits=Limits(chain_tokens=20))
    assert (result.answer, result.usage.calls) == ("8", 2)


def test_every_prompt_token_is_cached_but_the_header(model):
    engine = FakeEngine(model(["a", "b"], ["c"]), latency=Latency(token=0.01))
    result = run(engine)
    for stage in result.stages:
        for execution in stage.executions:
            recomputed = execution.usage.prompt_tokens - execution.usage.cached_tokens
            header = asyncio.run(engine.encode("\n<execution_1.1>\n"))
            assert recomputed <= len(header)
    assert result.usage.recomputed_tokens == result.usage.prompt_tokens - result.usage.cached_tokens


def test_the_transcript_parses_back_to_the_same_run(model):
    result = run(FakeEngine(model(["a", "b"], ["c"], answer="42")))
    trajectory = Trajectory.from_text(result.transcript)
    assert trajectory.answer == "42"
    assert [[s.prompt for s in stage.subtasks] for stage in trajectory.stages] == [["a", "b"], ["c"]]
    assert trajectory.diagnostics == ()


def test_a_prompt_that_the_plan_forgot_to_close_is_run():
    def respond(prompt):
        if prompt.text.endswith("add 1 and 2\n</prompt_1.1>\n<execution_1.1>\n"):
            return "3\n</execution_1.1>"
        if "</Execution_1>" in prompt.text:
            return "<Final_answer>\\boxed{3}</Final_answer>"
        return "<Plan_1>\n<prompt_1.1>add 1 and 2\n</Plan_1>"

    result = run(FakeEngine(respond))
    assert result.stages[0].results == ["3"]
    assert [diagnostic.kind for diagnostic in result.stages[0].diagnostics] == ["unclosed_prompt"]
