"""A planner that makes no progress ends its run with the reason, long before the last stage."""

import json

import pytest

from sprint_agents import Executor, Limits, Planner, Sprint
from sprint_agents.errors import NoAnswer, NoProgress
from sprint_agents.plan import Answer
from sprint_agents.run import Run
from sprint_agents.testing import FakeEngine


def plan(*prompts: str) -> str:
    return json.dumps({"thoughts": "", "subtasks": [{"prompt": prompt} for prompt in prompts]})


def end(engine: FakeEngine, **options) -> tuple[NoProgress, Run]:
    with pytest.raises(NoProgress) as caught:
        Sprint(engine, **options).run_sync("Where is the door?")
    assert caught.value.run is not None
    return caught.value, caught.value.run


@pytest.mark.parametrize("dialect", ["json", "tags"])
@pytest.mark.parametrize(
    ("written", "cause"),
    [
        ("", "nothing was written"),
        ("<think>on and on and", "tokens went into reasoning"),
        ("Let me see.", "Let me see."),
    ],
)
def test_a_planner_that_writes_no_plan_ends_after_two_stages(dialect, written, cause):
    engine = FakeEngine(lambda prompt: written)
    error, run = end(engine, dialect=dialect)
    assert engine.account().started == 2
    assert len(run.stages) == 2
    assert "no progress in stages 1 and 2" in str(error)
    if dialect == "json" or "reasoning" not in cause:
        assert cause in str(error)


def test_reasoning_that_takes_all_tokens_names_the_setting():
    engine = FakeEngine(lambda prompt: "<think>" + "and then " * 500)
    error, run = end(engine, dialect="json", limits=Limits(plan_tokens=100))
    assert "all 100 tokens went into reasoning" in str(error)
    assert "Raise Limits(plan_tokens=…), which is 100, or lower the model's effort" in str(error)
    assert [fault.kind for fault in run.stages[0].diagnostics].count("cut_off") == 1


@pytest.mark.parametrize("dialect", ["json", "tags"])
def test_a_planner_that_repeats_its_plan_ends(dialect):
    tags = "<Plan_{}>\n<prompt_{}.1>look</prompt_{}.1>\n</Plan_"

    def respond(prompt):
        if dialect == "json":
            return (
                '{"thoughts": "", "result": "a wall"}'
                if prompt.text.rfind("executor") > prompt.text.rfind("planner")
                else plan("look")
            )
        if prompt.text.endswith(">\n") and "<execution" in prompt.text[-20:]:
            return "a wall\n</execution_"
        stage = prompt.text.count("<Plan_") + 1
        return tags.format(stage, stage, stage)

    error, run = end(FakeEngine(respond), dialect=dialect)
    assert len(run.stages) == 3
    assert "plan 3 repeats plan 2" in str(error)


def test_other_results_are_progress():
    """A planner may ask the same again, as of a tool, as long as something changes."""
    counts = iter(range(100))
    replies = {"executor": lambda _: json.dumps({"thoughts": "", "result": next(counts)}), "planner": plan("poll")}
    sprint = Sprint(
        FakeEngine({**replies, "answer now": '{"answer": 5}'}),
        dialect="json",
        planner=Planner(int),
        executor=Executor(int),
        limits=Limits(stages=6),
    )
    assert sprint.run_sync("Poll.").answer == 5


def test_prose_is_corrected_in_the_next_turn():
    replies = {
        "planner, stage 1": "Well, I would look at both sides.",
        "planner, stage 2": plan("look left", "look right"),
        "executor": '{"thoughts": "", "result": "a wall"}',
        "planner, stage 3": '{"thoughts": "", "answer": "nowhere"}',
    }
    run = Sprint(FakeEngine(replies), dialect="json").run_sync("Where is the door?")
    assert run.answer == "nowhere"
    assert "that is neither a plan nor an answer" in run.transcript
    assert '{"thoughts": "Well, I would look at both sides."}' in run.transcript


def test_prose_that_goes_on_leads_to_the_answer():
    replies = {
        "planner, stage 1": "Well, I would look at both sides.",
        "planner, stage 2": "I see a wall.",
        "planner, stage 3: answer now": "It is on the left.",
    }
    run = Sprint(FakeEngine(replies), dialect="json").run_sync("Where is the door?")
    assert run.answer == "It is on the left."
    assert len(run.stages) == 3


def test_a_missing_answer_is_asked_for_again():
    answers = iter(['{"answer": "…"}', '{"thoughts": "", "answer": 4}'])
    replies = {"planner": plan("a", "b"), "executor": '{"result": "x"}', "answer now": lambda _: next(answers)}
    run = Sprint(FakeEngine(replies), dialect="json", planner=Planner(int), limits=Limits(stages=2)).run_sync("2+2?")
    assert run.answer == 4
    assert run.usage.retries == 1
    assert "that is no valid answer" in run.transcript


def test_no_answer_says_what_was_written_instead():
    replies = {"planner": plan("a", "b"), "executor": '{"result": "x"}', "answer now": plan("a", "b")}
    with pytest.raises(NoAnswer, match="this is a plan, and there is no answer"):
        Sprint(FakeEngine(replies), dialect="json", limits=Limits(stages=2)).run_sync("2+2?")


def test_every_completion_that_was_cut_off_is_a_diagnostic():
    async def policy(planning):
        stage = yield planning.ask()
        chain = yield planning.ask("chain")
        stage = yield planning.ask("answer")
        yield Answer(value=stage.answer or chain.answer)

    replies = {
        "hand out": plan("a", "b") + " " + "and so on " * 100,
        "executor 1.1": '{"thoughts": "' + "so " * 100,
        "executor 1.2": '{"thoughts": "", "result": "x"}',
        "think step by step": "so " * 100,
        "answer now": '{"answer": "' + "so " * 100,
    }
    limits = Limits(plan_tokens=60, execution_tokens=30, chain_tokens=20, answer_tokens=10)
    run = Sprint(FakeEngine(replies), policy=policy, dialect="json", limits=limits).run_sync("2+2?")
    cut = [[fault for fault in stage.diagnostics if fault.kind == "cut_off"] for stage in run.stages]
    assert [[fault.number for fault in faults] for faults in cut] == [[None, 1], [None], [None]]
    assert cut[0][0].message == "plan 1 was cut off after 60 tokens: raise Limits(plan_tokens=…)"
    assert "Limits(execution_tokens=…)" in cut[0][1].message
    assert "Limits(chain_tokens=…)" in cut[1][0].message
    assert "Limits(answer_tokens=…)" in cut[2][0].message


def test_an_empty_list_of_subtasks_is_no_progress():
    error, run = end(FakeEngine('{"thoughts": "", "subtasks": []}'), dialect="json")
    assert "has no subtasks" in str(error)
    assert len(run.stages) == 2
