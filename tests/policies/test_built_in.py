"""Each built-in policy's schedule: when each request starts and ends."""

import re

import pytest

from sprint_agents import Limits, Plan, Planner
from sprint_agents.errors import ConfigurationError, NoAnswer, PolicyError
from sprint_agents.policies import (
    BUILT_IN,
    aggregation,
    as_needed,
    dag,
    fork_join_async,
    interleaved,
    limit_width,
    race,
    self_consistency,
    skeleton,
    spawn_join,
    tree_search,
)
from sprint_agents.testing import FakeEngine, Reply


def words(text, seconds):
    return Reply(text, delay=seconds)


def test_interleaved_plans_again_when_the_slowest_execution_is_done(script, plan, answer, schedule, run):
    engine = FakeEngine(
        script(
            {"plan": [plan(1, "a", "b"), plan(2, "c"), answer(42)], "1.1": words("slow\n", 5), "2.1": words("x\n", 2)}
        )
    )
    assert run(engine).answer == "42"
    assert schedule(engine) == [
        ("plan", 0, 1),
        ("1.2", 1, 2),
        ("1.1", 1, 6),
        ("plan", 6, 7),
        ("2.1", 7, 9),
        ("plan", 9, 10),
    ]


def test_sequential_is_one_chain_and_an_answer_if_there_was_none(script, chain, schedule, run):
    engine = FakeEngine(script({"chain": chain(42, 3)}))
    assert run(engine, policy="sequential").answer == "42"
    assert schedule(engine) == [("chain", 0, 3)]
    engine = FakeEngine(script({"chain": "no end in sight", "answer": "\\boxed{41}</Final_answer>"}))
    assert run(engine, policy="sequential").answer == "41"
    assert schedule(engine) == [("chain", 0, 1), ("answer", 1, 2)]


def test_self_consistency_thinks_at_the_same_time_and_takes_the_vote(script, chain, schedule, run):
    engine = FakeEngine(script({"chain": [chain(7, 1), chain(8, 3), chain(8, 2)]}))
    result = run(engine, policy=self_consistency(3), planner=Planner(int, attempts=1))
    assert schedule(engine) == [("chain", 0, 1), ("chain", 0, 2), ("chain", 0, 3)]
    assert result.answer == 8
    (stage,) = result.stages
    assert [execution.value for execution in stage.executions] == [7, 8, 8]
    assert stage.executions[0].text.startswith("<think>\nlet me see")
    assert stage.executions[0].prompt == "question"
    assert result.transcript == "question\n"
    assert result.usage.sequential_tokens_strict < result.usage.total_tokens / 2


def test_a_vote_that_is_undecided_goes_to_the_first(script, chain, run):
    engine = FakeEngine(script({"chain": [chain(7, 9), chain(8), chain(8), chain(7)]}))
    assert run(engine, policy=self_consistency(4)).answer == "7"


def test_a_vote_counts_only_what_came_to_an_answer_of_its_type(script, chain, run):
    engine = FakeEngine(script({"chain": [chain("many"), chain("many"), chain(8)]}))
    assert run(engine, policy=self_consistency(3), planner=Planner(int, attempts=1)).answer == 8
    engine = FakeEngine(script({"chain": [chain("many"), chain("few")]}))
    with pytest.raises(NoAnswer, match=r"none of 2 attempts came to a good answer; 1: InvalidResult: 'many' is no int"):
        run(engine, policy=self_consistency(2), planner=Planner(int, attempts=1))


def test_a_judge_reads_all_answers(script, chain, schedule, run):
    engine = FakeEngine(script({"chain": [chain(7), chain("8 </Plan_1>", 2)], "answer": "\\boxed{8}</Final_answer>"}))
    result = run(engine, policy=self_consistency(2, judge=True))
    assert result.answer == "8"
    assert schedule(engine) == [("chain", 0, 1), ("chain", 0, 2), ("answer", 2, 3)]
    assert "\n1. 7\n2. 8 < /Plan_1>\n</Plan_1>\n<Final_answer>\n" in result.transcript


def test_aggregation_reads_the_conclusions_of_the_last_round_and_nothing_else(script, chain, schedule, run):
    chains = [chain(7), chain(8, 3), chain("9 </Plan_1>", 2), chain(8, 2), chain("many"), chain(10)]
    engine = FakeEngine(script({"chain": chains}))
    result = run(engine, policy=aggregation(3, 2, 1))
    assert schedule(engine) == [
        *[("chain", 0, 1), ("chain", 0, 2), ("chain", 0, 3)],
        *[("chain", 3, 4), ("chain", 3, 5), ("chain", 5, 6)],
    ]
    contexts = [record.request.context.text for record in engine.requests]
    assert contexts[0] == "question\n<think>\n"
    assert "\n1. 7\n2. 8\n3. 9 < /Plan_1>\n</Plan_1>\n<think>\n" in contexts[3]
    assert contexts[3] == contexts[4]
    assert "\n1. 8\n2. many\n</Plan_1>\n" in contexts[5]
    assert "let me see" not in contexts[5]
    assert (result.answer, result.transcript) == ("10", "question\n")
    assert [len(stage.executions) for stage in result.stages] == [3, 2, 1]


def test_a_round_of_failures_leaves_the_conclusions_before_it(script, chain, run):
    chains = [chain(8), chain(9), chain(8), chain("many"), chain("few")]
    engine = FakeEngine(script({"chain": chains}))
    result = run(engine, policy=aggregation(3, 1, 1), planner=Planner(int, attempts=1))
    assert result.answer == 8
    assert "\n1. 8\n2. 9\n3. 8\n" in engine.requests[-1].request.context.text
    engine = FakeEngine(script({"chain": [chain("many"), chain("few")]}))
    with pytest.raises(NoAnswer, match=r"none of 2 attempts came to a good answer; 1: InvalidResult: 'many' is no int"):
        run(engine, policy=aggregation(1, 1), planner=Planner(int, attempts=1))


def test_each_attempt_reads_its_own_subset_of_the_conclusions(script, chain, run):
    async def conclude(attempt):
        return f"it is {attempt.value}, says {attempt.number}"

    def contexts():
        engine = FakeEngine(script({"chain": [chain(value % 6) for value in range(12)]}))
        run(engine, policy=aggregation(6, 6, subset=2, conclude=conclude))
        return [record.request.context.text for record in engine.requests[6:]]

    notes = contexts()
    assert all(len(re.findall(r"^[12]\. it is \d, says \d$", note, re.MULTILINE)) == 2 for note in notes)
    assert len(set(notes)) > 2
    assert notes == contexts()


def test_a_conclusion_is_a_text(script, chain, run):
    engine = FakeEngine(script({"chain": [chain(1), chain(2)]}))
    with pytest.raises(PolicyError, match="conclude= returned int: it returns a text to be read"):
        run(engine, policy=aggregation(1, 1, conclude=lambda attempt: 7))


def test_skeleton_expands_all_points_at_once_and_answers(script, plan, schedule, run):
    table = {"plan": plan(1, "a", "b"), "1.1": words("long\n", 4), "answer": "\\boxed{42}</Final_answer>"}
    engine = FakeEngine(script(table))
    assert run(engine, policy="skeleton").answer == "42"
    assert schedule(engine) == [("plan", 0, 1), ("1.2", 1, 2), ("1.1", 1, 5), ("answer", 5, 6)]
    engine = FakeEngine(script(table))
    assert run(engine, policy=skeleton(merge="; ".join)).answer == "long; result 1.2"
    assert schedule(engine) == [("plan", 0, 1), ("1.2", 1, 2), ("1.1", 1, 5)]


def test_spawn_join_lets_children_spawn(script, plan, answer, schedule, run):
    # A child's plan is the second in its own context; one level deeper, children would only be executors.
    engine = FakeEngine(
        script(
            {
                "plan": [plan(1, "a", "b"), "both\n</execution_1.1>", answer(42)],
                "1.1": plan(2, "aa", "ab"),
                "1.2": words("at once\n", 9),
                "2.2": words("x\n", 3),
            }
        )
    )
    result = run(engine, policy="spawn_join")
    assert schedule(engine) == [
        ("plan", 0, 1),
        ("1.1", 1, 2),
        ("1.2", 1, 10),
        ("2.1", 2, 3),
        ("2.2", 2, 5),
        ("plan", 5, 6),
        ("plan", 10, 11),
    ]
    stage = result.stages[0]
    assert stage.results == ["both", "at once"]
    assert [execution.prompt for execution in stage.executions[0].stages[0].executions] == ["aa", "ab"]
    assert "<execution_1.1>\nboth\n</execution_1.1>\n<execution_1.2>\nat once\n</execution_1.2>" in result.transcript


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_spawn_join_ends_at_its_depth(plan, answer, run, depth):
    """A model that spawns wherever it can."""

    def respond(prompt):
        if joined := re.search(r"</Execution_(\d+)>\n$", prompt.text):
            return answer(42) if joined[1] == "1" else "done\n</execution_"
        return plan(prompt.text.count("<Plan_") + 1, "deeper")

    levels = 0
    execution = run(FakeEngine(respond), policy=spawn_join(depth=depth)).stages[0].executions[0]
    while execution.stages:
        levels, execution = levels + 1, execution.stages[0].executions[0]
    assert levels == depth


def test_fork_join_async_writes_on_while_executions_run(script, plan, answer, schedule, run):
    engine = FakeEngine(
        script(
            {
                "plan": [plan(1, "a", "b"), plan(2, "c"), plan(3), answer(42)],
                "1.1": words("x\n", 5),
                "2.1": words("y\n", 7),
            }
        )
    )
    result = run(engine, policy="fork_join_async")
    assert schedule(engine) == [
        ("plan", 0, 1),
        ("1.2", 1, 2),
        ("plan", 1, 2),  # does not wait for plan 1
        ("1.1", 1, 6),
        ("2.1", 2, 9),
        ("plan", 6, 7),  # waits for plan 1, one plan ahead, and not for plan 2
        ("plan", 9, 10),  # a plan without subtasks waits for all
    ]
    assert [stage.results for stage in result.stages] == [["x", "result 1.2"], ["y"], [], []]
    assert result.transcript.index("<Plan_2>") < result.transcript.index("<Execution_1>")


def test_fork_join_async_without_leave_to_run_ahead_is_interleaved(script, plan, answer, run):
    table = {"plan": [plan(1, "a", "b"), plan(2, "c"), answer(42)]}
    ahead = run(FakeEngine(script(table)), policy=fork_join_async(ahead=0))
    plain = run(FakeEngine(script(table)))
    assert ahead.transcript == plain.transcript
    assert ahead.usage.sequential_tokens_strict == plain.usage.sequential_tokens_strict


def test_dag_starts_each_subtask_as_soon_as_it_can(script, answer, schedule, run):
    engine = FakeEngine(script({"1.1": words("x\n", 5), "plan": answer(42)}))
    policy = dag(lambda planning: Plan.of("a", "b", "c", "d", after={3: (1,), 4: (2,)}))
    assert run(engine, policy=policy).answer == "42"
    assert schedule(engine) == [
        ("1.2", 0, 1),
        ("1.1", 0, 5),
        ("1.4", 1, 2),  # does not wait for 1.1
        ("1.3", 5, 6),
        ("plan", 6, 7),
    ]


def test_dag_replans_so_often_and_then_must_answer(script, plan, schedule, run):
    engine = FakeEngine(
        script({"plan": [plan(1, "a"), plan(2, "b"), plan(3, "c")], "answer": "\\boxed{42}</Final_answer>"})
    )
    assert run(engine, policy="dag").answer == "42"
    assert [asked for asked, *_ in schedule(engine)] == ["plan", "1.1", "plan", "2.1", "plan", "3.1", "answer"]


def test_as_needed_plans_only_what_cannot_be_done_at_once(script, plan, answer, chain, schedule, run):
    engine = FakeEngine(script({"chain": chain(42, 2)}))
    assert run(engine, policy="as_needed").answer == "42"
    assert schedule(engine) == [("chain", 0, 2)]
    engine = FakeEngine(
        script(
            {
                "chain": chain("wrong"),
                "plan": [plan(1, "easy", "hard"), "merged\n</execution_1.2>", answer(42)],
                # Tried on the spot, then planned: the failed try is not in the context.
                "1.2": ["wrong\n", plan(2, "half", "other half")],
                "2.1": words("x\n", 4),
            }
        )
    )
    result = run(engine, policy=as_needed(lambda tried: tried.value != "wrong"))
    assert schedule(engine) == [
        ("chain", 0, 1),
        ("plan", 1, 2),
        ("1.1", 2, 3),
        ("1.2", 2, 3),
        ("1.2", 3, 4),
        ("2.2", 4, 5),
        ("2.1", 4, 8),
        ("plan", 8, 9),
        ("plan", 9, 10),
    ]
    assert result.stages[1].results == ["result 1.1", "merged"]
    assert "wrong" not in result.transcript
    assert result.transcript.startswith("question\n<Plan_1>\n")


def test_tree_search_goes_on_from_the_best(script, schedule, run):
    engine = FakeEngine(
        script(
            {
                **{f"1.{n}": words(f"{worth}\n", n) for n, worth in enumerate((3, 9, 5), 1)},
                **{f"2.{n}": f"{worth}\n" for n, worth in enumerate((1, 2, 3, 6, 5, 4), 1)},
                "answer": "\\boxed{42}</Final_answer>",
            }
        )
    )
    result = run(engine, policy=tree_search(lambda proposal: float(proposal.value), beam=2, proposals=3, depth=2))
    assert schedule(engine) == [
        ("1.1", 0, 1),
        ("1.2", 0, 2),
        ("1.3", 0, 3),
        *((f"2.{n}", 3, 4) for n in range(1, 7)),
        ("answer", 4, 5),
    ]
    assert (
        "<Execution_1>\n<execution_1.2>\n9\n</execution_1.2>\n<execution_1.3>\n5\n</execution_1.3>\n</Exec"
        in result.transcript
    )
    prompts = [execution.prompt for execution in result.stages[1].executions]
    assert [prompt.partition(":")[0] for prompt in prompts] == ["Go on from execution 1.2"] * 3 + [
        "Go on from execution 1.3"
    ] * 3
    assert "<Execution_2>\n<execution_2.4>\n6\n</execution_2.4>\n<execution_2.5>\n5\n" in result.transcript
    assert [len(stage.executions) for stage in result.stages] == [3, 6, 0]


def test_tree_search_has_the_model_rate_each_proposal_when_it_is_there(script, schedule, run):
    engine = FakeEngine(
        script(
            {
                "1.1": words("slow\n", 5),
                "1.3": "I say 2.5 of 10\n",
                "1.4": "about nine, so 9\n",
                "answer": "\\boxed{42}</Final_answer>",
            }
        )
    )
    result = run(engine, policy=tree_search(beam=1, proposals=2, depth=1))
    assert schedule(engine) == [("1.2", 0, 1), ("1.1", 0, 5), ("1.4", 1, 2), ("1.3", 5, 6), ("answer", 6, 7)]
    assert "slow" not in result.transcript
    assert "<Execution_1>\n<execution_1.2>\nresult 1.2\n</execution_1.2>\n</Execution_1>" in result.transcript


def test_all_are_there_by_name(script, chain, plan, answer, run):
    table = {
        "chain": [chain(42)] * 9,
        "plan": answer(42),
        "answer": "\\boxed{42}</Final_answer>",
    }
    for name in BUILT_IN:
        result = run(FakeEngine(script(table)), policy=name)
        assert (result.answer, result.policy) == ("42", name)


def test_a_policy_with_parameters_is_recorded_as_it_was_made(script, chain, run):
    assert run(FakeEngine(script({"chain": [chain(1)] * 3})), policy=self_consistency(samples=3)).policy == (
        "self_consistency(samples=3)"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: self_consistency(0), "samples is 0: it must be at least 1"),
        (lambda: aggregation(4, 0), "the number of attempts of round 2 is 0: it must be at least 1"),
        (lambda: aggregation(subset=0), "subset is 0: it must be at least 1"),
        (lambda: tree_search(beam=2, proposals=-1), "proposals is -1: it must be at least 1"),
        (lambda: spawn_join(depth=-1), "depth is -1: it must be at least 0"),
        (lambda: limit_width(interleaved, 0), "width is 0: it must be at least 1"),
        (lambda: race(check=bool), "policies is 0: it must be at least 1"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_when_the_policy_is_made(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_the_stage_limit_holds_for_what_did_not_wait(script, plan, run):
    engine = FakeEngine(
        script({"plan": [plan(1, "a"), plan(2, "b")], "1.1": words("x\n", 9), "answer": "\\boxed{42}</Final_answer>"})
    )
    result = run(engine, policy=fork_join_async(ahead=5), limits=Limits(stages=3))
    assert result.answer == "42"
    assert result.transcript.index("</Execution_2>") < result.transcript.index("<Final_answer>")
    assert [stage.results for stage in result.stages] == [["x"], ["result 2.1"], []]
