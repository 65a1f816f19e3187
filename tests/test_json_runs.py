"""Whole runs in the JSON dialect, over a scripted engine."""

import json
from dataclasses import dataclass

import pytest

from sprint_agents import Answer, Capabilities, Executor, Limits, Plan, Planner, Sprint
from sprint_agents.dialects.json.dialect import PLAIN_TURNS, JsonDialect
from sprint_agents.engine import ChatTurns
from sprint_agents.errors import ConfigurationError, InvalidResult
from sprint_agents.events import ExecutionFinished, PlannerWrote, SubtaskStarted
from sprint_agents.policies import interleaved
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual

SPEAKERS = ("system", "user", "assistant")
CHATML = ChatTurns(
    opens={name: f"<|im_start|>{name}\n" for name in SPEAKERS}, closes=dict.fromkeys(SPEAKERS, "<|im_end|>\n")
)


class Chat(FakeEngine):
    """A fake whose model was made for conversations and can be held to a schema; what it was asked is in ``asked``."""

    capabilities = Capabilities(chat=CHATML, schemas=True)

    def __init__(self, replies, **options):
        self.asked = []
        super().__init__(replies, end_text="<|im_end|>", **options)

    async def complete(self, request):
        self.asked.append(request)
        async for chunk in super().complete(request):
            yield chunk


@dataclass
class Trip:
    city: str
    days: int


def plan(*subtasks, **more):
    return json.dumps({**more, "subtasks": [{"prompt": task} if isinstance(task, str) else task for task in subtasks]})


def answer(value):
    return json.dumps({"answer": value})


def result(value):
    return json.dumps({"result": value})


def solve(replies, *, task="Add up.", engine=Chat, latency=None, **options):
    engine = engine(replies, latency=latency)
    return run_virtual(Sprint(engine, **options).run(task)), engine


SUMS = {
    "planner, stage 1": plan("sum the first half", "sum the second half", thoughts="halves"),
    "executor 1.1": result(10),
    "executor 1.2": Reply(result(32), delay=1),
    "planner, stage 2": answer(42),
}


def test_a_typed_plan_typed_results_and_a_typed_answer():
    run, engine = solve(SUMS, planner=Planner(int), executor=Executor(int))
    assert run.answer == 42
    assert run.stages[0].results == [10, 32]
    assert [execution.text for execution in run.stages[0].executions] == ["10", "32"]
    assert json.loads(run.stages[0].plan)["thoughts"] == "halves"
    assert all(stage.diagnostics == () for stage in run.stages)
    assert engine.account().running == 0


def test_a_run_byte_for_byte():
    run, engine = solve(SUMS, planner=Planner(int), executor=Executor(int))
    question = JsonDialect(CHATML).bind(Planner(int).brief, Executor(int).brief).write_task("Add up.")
    user, end, assistant = "<|im_start|>user\n", "<|im_end|>\n", "<|im_start|>assistant\n"
    plan_turn, answer_turn = '{{"thoughts": …, "subtasks": […]}}', '{{"thoughts": …, "answer": an integer}}'
    planner = f"{{user}}planner, stage {{stage}}: hand out subtasks, {plan_turn}, or answer, {answer_turn}{{end}}"
    executed = '{{"thoughts": …, "result": an integer}}'
    executor = f"{{user}}executor 1.{{number}}: carry out subtask {{number}} of stage 1, {executed}{{end}}"
    first = planner.format(user=user, end=end, stage=1) + assistant
    one, two = (executor.format(user=user, end=end, number=number) + assistant for number in (1, 2))
    half = '{"thoughts": "halves", "subtasks": [{"prompt": "sum the first half"}'
    rest = ', {"prompt": "sum the second half"}'
    joined = f'{one}{{"result": 10}}{end}{two}{{"result": 32}}{end}'
    second = planner.format(user=user, end=end, stage=2) + assistant
    before = question + first + half
    assert [request.context.text for request in engine.asked] == [
        question + first,
        before + end + one,
        before + rest + end + two,
        before + rest + "]}" + end + joined + second,
    ]
    assert run.transcript == before + rest + "]}" + end + joined + second + answer(42) + "<|im_end|>"


def test_every_request_shares_all_that_it_can_with_those_before():
    """Only the suffix depends on the role: the cache serves the whole context up to the words that ask for the turn."""
    _, engine = solve(SUMS, planner=Planner(int), executor=Executor(int))
    planning, first, second, answering = [request.context.text for request in engine.asked]
    plan_text = planning + SUMS["planner, stage 1"]
    dialect = JsonDialect(CHATML).bind(Planner(int).brief, Executor(int).brief)
    for number, context in ((1, first), (2, second)):
        header = dialect.write_header(1, number)
        assert context.endswith(header)
        assert plan_text.startswith(context.removesuffix(header))
    assert answering.startswith(plan_text)
    fresh = [record.prompt_tokens - record.cached_tokens for record in engine.requests]
    headers = [len(run_virtual(engine.encode(dialect.write_header(1, number)))) for number in (1, 2)]
    assert fresh[1:3] == headers


def test_an_executor_starts_the_moment_its_subtask_closes():
    engine = Chat({**SUMS, "executor 1.2": result(32)}, latency=Latency(token=1.0))

    async def watch():
        async with Sprint(engine, executor=Executor(int)).stream("Add up.") as stream:
            return [event async for event in stream]

    events = run_virtual(watch())
    started = next(i for i, event in enumerate(events) if isinstance(event, SubtaskStarted))
    written = "".join(event.text for event in events[:started] if isinstance(event, PlannerWrote))
    assert written.endswith('{"prompt": "sum the first half"}')
    finished = next(i for i, event in enumerate(events) if isinstance(event, ExecutionFinished))
    assert any(isinstance(event, PlannerWrote) and event.stage == 1 for event in events[finished:])


def test_a_subtask_waits_for_those_that_it_names_and_reads_their_results():
    replies = {
        "planner, stage 1": plan("load a", "load b", {"prompt": "compare", "after": [2]}, "load c"),
        "executor 1.1": Reply(result("a"), delay=5),
        "executor 1.2": Reply(result("b"), delay=3),
        "executor 1.3": Reply(result("differ"), delay=3),
        "executor 1.4": Reply(result("c"), delay=1),
        "planner, stage 2": answer("done"),
    }
    run, engine = solve(replies)
    assert run.usage.seconds == pytest.approx(6)
    compare = next(
        r.context.text
        for r in engine.asked
        if r.context.text.rstrip().endswith("assistant") and "executor 1.3" in r.context.text
    )
    behind = compare[compare.index('{"prompt": "compare", "after": [2]}') :]
    dialect = JsonDialect(CHATML)
    assert behind == (
        '{"prompt": "compare", "after": [2]}'
        + "<|im_end|>\n"
        + dialect.write_header(1, 2, inputs=True)
        + '{"result": "b"}<|im_end|>\n'
        + dialect.write_header(1, 3, inputs=True)
    )
    assert [execution.value for execution in run.stages[0].executions] == ["a", "b", "differ", "c"]


def test_a_failure_is_read_by_the_planner():
    replies = {**SUMS, "executor 1.2": Reply(result(32), fault=Fault.drop(after=2))}
    run, engine = solve(replies, planner=Planner(int), executor=Executor(int))
    assert run.stages[0].results == [10]
    assert '{"failed": "EngineUnavailable: ' in engine.asked[-1].context.text


def test_the_text_of_an_execution_is_its_result_alone():
    replies = {**SUMS, "executor 1.1": json.dumps({"thoughts": "so", "result": "one\ntwo"})}
    run, _ = solve(replies, planner=Planner(int))
    assert [execution.text for execution in run.stages[0].executions] == ["one\ntwo", "32"]


def test_what_is_no_valid_result_is_corrected():
    replies = {
        **SUMS,
        "executor 1.1": result("ten"),
        "that is no valid result": result(10),
    }
    run, _ = solve(replies, planner=Planner(int), executor=Executor(int))
    assert run.stages[0].results == [10, 32]
    assert '{"result": 10}<|im_end|>' in run.transcript
    assert '"ten"' not in run.transcript


def test_an_answer_that_is_never_valid_is_an_error_with_the_text():
    with pytest.raises(InvalidResult) as caught:
        solve(lambda prompt: answer("many"), planner=Planner(int))
    assert "many" in caught.value.text


def test_at_the_last_stage_the_answer_is_forced():
    def respond(prompt):
        if "answer now" in prompt.tail(200):
            return answer("enough")
        return result("x") if "executor" in prompt.tail(150) else plan("again")

    run, _ = solve(respond, limits=Limits(stages=3))
    assert run.answer == "enough"
    assert [len(stage.executions) for stage in run.stages] == [1, 1, 0]


def test_a_chain_is_free_text_that_ends_with_the_answer():
    chain = 'First {x}. Then 42.\n{"answer": 42}'
    run, engine = solve({"step by step": chain}, policy="sequential", planner=Planner(int))
    assert run.answer == 42
    assert run.stages[0].plan == "First {x}. Then 42.\n"
    assert engine.asked[0].schema is None


def test_a_chain_without_an_answer_is_asked_for_one():
    replies = {"step by step": "First x. Then 42.", "answer now": answer(42)}
    run, engine = solve(replies, policy="sequential", planner=Planner(int))
    assert run.answer == 42
    assert "Then 42.<|im_end|>\n<|im_start|>user\nplanner, stage 1: answer now" in engine.asked[1].context.text


def test_a_policys_plan_is_a_turn_of_the_planner():
    async def halves(planning):
        stage = yield Plan.of("sum the first half", "sum the second half", after={2: [1]})
        yield Answer(value=sum(stage.results))

    run, _ = solve(SUMS, policy=halves, planner=Planner(int), executor=Executor(int))
    assert run.answer == 42
    turn = '{"subtasks": [{"prompt": "sum the first half"}, {"prompt": "sum the second half", "after": [1]}]}<|im_end|>'
    assert turn in run.transcript


def test_a_function_gives_results_as_an_executor_would():
    run, _ = solve(
        {"planner, stage 1": plan("a", "b"), "planner, stage 2": answer("x")},
        executor=lambda subtask: Trip(subtask.prompt, 2),
    )
    assert '{"result": {"city":"a","days":2}}<|im_end|>' in run.transcript
    assert "A program carries out the subtasks" in run.transcript


def test_an_engine_is_asked_for_schemas_where_it_can_hold_to_them():
    replies = {**SUMS, "planner, stage 2": answer({"city": "Rome", "days": 3})}
    run, engine = solve(replies, planner=Planner(Trip), executor=Executor(int))
    assert run.answer == Trip("Rome", 3)
    dialect = JsonDialect().bind(Planner(Trip).brief, Executor(int).brief)
    assert [request.schema for request in engine.asked] == [
        dialect.constraints(role).schema for role in ("plan", "execution", "execution", "plan")
    ]
    seen = []

    def respond(prompt):
        seen.append(prompt.request.schema)
        return answer("x")

    solve(respond, engine=FakeEngine, dialect="json")
    assert seen == [None]


def test_any_engine_can_be_asked_for_json():
    run, _ = solve(SUMS, engine=FakeEngine, dialect="json", planner=Planner(int), executor=Executor(int))
    assert run.answer == 42
    assert run.transcript.startswith(PLAIN_TURNS.open("system"))


def test_a_model_that_writes_nothing_of_the_kind_ends_at_the_stage_limit():
    run, _ = solve("so, well, ", limits=Limits(stages=3, plan_tokens=9, answer_tokens=9))
    assert run.answer == "so, well,"
    assert len(run.stages) == 3


def test_a_plan_that_is_cut_off_keeps_what_had_begun():
    replies = {**SUMS, "planner, stage 1": plan("sum the first half", "sum " * 1000)}
    run, _ = solve(replies, limits=Limits(plan_tokens=60), planner=Planner(int), executor=Executor(int))
    assert run.stages[0].results == [10]
    kinds = ["unclosed_prompt", "unclosed_plan", "cut_off"]
    assert [diagnostic.kind for diagnostic in run.stages[0].diagnostics] == kinds
    assert run.answer == 42


def test_structure_is_no_content():
    run, engine = solve(SUMS, planner=Planner(int), executor=Executor(int), latency=Latency(token=0.001))
    content = ["halves", "sum the first half", "sum the second half", "32"]
    tokens = sum(len(run_virtual(engine.encode(text))) for text in content)
    assert run.stages[0].usage.sequential_tokens == tokens
    assert run.stages[0].usage.sequential_tokens_strict > tokens


def test_an_unknown_dialect_is_a_mistake():
    with pytest.raises(ConfigurationError, match="dialect= of Sprint is 'xml'"):
        solve(SUMS, dialect="xml")


def test_an_executor_calls_tools_and_goes_on_with_what_they_return():
    def length(word: str) -> int:
        """Count the letters of a word."""
        return len(word)

    calls = [{"tool": "length", "arguments": {"word": word}} for word in ("sum", "total")]
    replies = {
        "planner, stage 1": plan("count the letters"),
        "executor 1.1: carry out": json.dumps({"thoughts": "both at once", "call": calls}),
        "executor 1.1: the tools returned": result(8),
        "planner, stage 2": answer(8),
    }
    run, engine = solve(replies, planner=Planner(int), executor=Executor(int, tools=[length]))
    assert run.answer == 8
    assert "- length: Count the letters of a word." in engine.asked[0].context.text
    assert '[{"tool": "length", "result": 3}, {"tool": "length", "result": 5}]' in engine.asked[2].context.text
    assert engine.asked[2].context.text.startswith(engine.asked[1].context.text)
    assert '{"result": 8}<|im_end|>' in run.transcript
    assert "the tools returned" not in run.transcript


def test_a_subtask_may_be_planned_in_its_turn():
    async def nesting(planning):
        stage = yield planning.ask(nested=interleaved)
        while stage.answer is None:
            stage = yield planning.ask()
        yield Answer(value=stage.answer)

    replies = [plan("sum everything"), plan("the first half"), result(10), result(32), answer(42)]
    run, engine = solve(replies, policy=nesting, planner=Planner(int), executor=Executor(int))
    assert run.answer == 42
    assert run.stages[0].results == [32]
    assert [stage.results for stage in run.stages[0].executions[0].stages] == [[10], []]
    asked = [request.context.text for request in engine.asked]
    dialect = JsonDialect(CHATML).bind(Planner(int).brief, Executor(int).brief)
    assert asked[1].endswith(dialect.write_header(1, 1, nested=True))
    assert asked[2].startswith(asked[1] + plan("the first half").removesuffix("]}"))
    assert asked[4].startswith(asked[0] + plan("sum everything"))
    assert "the first half" not in run.transcript
