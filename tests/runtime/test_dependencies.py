"""Subtasks that wait for others: what they read, when they start, and plans that cannot be run."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Answer, Executor, Plan, Planner, Sprint, Subtask
from sprint_agents.dialects.completions import PromptClosed
from sprint_agents.dialects.tags.dialect import TagDialect
from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.dialects.tags.plans import TagPlanReader
from sprint_agents.errors import ExecutionFailed, PolicyError
from sprint_agents.manifest import Manifest
from sprint_agents.markup import markup
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual
from sprint_agents.usage import sequential_tokens_strict


def run(engine, plan, **options):
    async def policy(planning):
        yield plan
        yield Answer(value="done")

    return run_virtual(Sprint(engine, policy=policy, **options).run("question"))


def contexts(engine):
    return {record.request.context.text.rsplit("\n", 2)[-2]: record.request.context for record in engine.requests}


def test_a_dependent_reads_what_it_waited_for_as_the_ids_that_were_generated(model):
    engine = FakeEngine(model(execute=lambda stage, number: Reply(f"value {number}\n", delay=3 - number)))
    run(engine, Plan.of("a", "b", "c", after={3: (2, 1)}))
    dependent = contexts(engine)["<execution_1.3>"]
    assert dependent.text == (
        "question\n<Plan_1>\n<prompt_1.1>a</prompt_1.1>\n<prompt_1.2>b</prompt_1.2>\n<prompt_1.3>c</prompt_1.3>\n"
        "<execution_1.1>\nvalue 1\n</execution_1.1>\n"  # in prompt order, whatever finished first or is named first
        "<execution_1.2>\nvalue 2\n</execution_1.2>\n"
        "<execution_1.3>\n"
    )
    assert run_virtual(engine.encode(markup(dependent.text))) == dependent.flatten()
    assert "</prompt_1.3>\n<execution_1.1>" in contexts(engine)["<execution_1.3>"].text
    assert contexts(engine)["<execution_1.1>"].text.endswith("<prompt_1.1>a</prompt_1.1>\n<execution_1.1>\n")


def test_the_join_does_not_depend_on_who_waited(model):
    transcripts = {
        run(FakeEngine(model()), Plan.of("a", "b", "c", after=after)).transcript
        for after in (
            {},
            {2: (1,)},
            {1: (3,), 3: (2,)},
        )
    }
    assert len(transcripts) == 1


@given(seed=st.randoms(use_true_random=False), count=st.integers(1, 9))
def test_each_starts_when_the_last_that_it_waits_for_is_done(model, seed, count):
    """There is no barrier: in any acyclic plan a subtask starts when its own dependencies end."""
    order = seed.sample(range(1, count + 1), count)
    after = {number: tuple(seed.sample(order[:place], seed.randint(0, place))) for place, number in enumerate(order)}
    seconds = {number: float(seed.randint(0, 5)) for number in order}
    engine = FakeEngine(model(execute=lambda stage, number: Reply(f"{number}\n", delay=seconds[number])))
    result = run(engine, Plan.of(*map(str, range(1, count + 1)), after=after))
    assert [execution.value for execution in result.stages[0].executions] == [*map(str, range(1, count + 1))]
    ends: dict[int, float] = {}
    for number in order:
        ends[number] = max([0.0, *(ends[other] for other in after[number])]) + seconds[number]
    found = {int(key[13:-1]): context for key, context in contexts(engine).items()}
    records = {record.request.context: record for record in engine.requests}
    assert {number: records[context].ended for number, context in found.items()} == ends
    assert result.usage.seconds == max(ends.values())
    assert engine.account().running == 0


def test_the_critical_path_goes_through_what_was_waited_for(model):
    engine = FakeEngine(model(execute=lambda stage, number: "word " * number))
    result = run(engine, Plan.of("a", "b", "c", "d", after={2: (1,), 4: (3,), 3: (1,)}))
    tokens = [execution.usage.generated_tokens for execution in result.stages[0].executions]
    assert result.usage.sequential_tokens_strict == tokens[0] + tokens[2] + tokens[3]
    assert sequential_tokens_strict(0, [(0, count) for count in tokens]) < result.usage.sequential_tokens_strict


def test_a_dependent_of_a_failure_reads_the_failure(model):
    engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", fault=Fault.drop() if n == 1 else None)))
    result = run(engine, Plan.of("a", "b", after={2: (1,)}))
    assert [execution.succeeded for execution in result.stages[0].executions] == [False, True]
    assert "<execution_1.1>\n[failed: EngineUnavailable: " in contexts(engine)["<execution_1.2>"].text


def test_under_fail_fast_a_dependent_of_a_failure_never_starts(model):
    engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", delay=1, fault=Fault.drop() if n == 1 else None)))
    with pytest.raises(ExecutionFailed, match=r"subtask 1\.1 failed"):
        run(engine, Plan.of("a", "b", after={2: (1,)}), failure="fail_fast")
    assert engine.account().started == 1


def test_a_function_is_given_what_it_waited_for(model):
    def add(subtask: Subtask) -> int:
        return int(subtask.prompt) + sum(execution.value for execution in subtask.inputs)

    result = run(FakeEngine(model()), Plan.of("1", "20", "300", after={3: (1, 2), 2: (1,)}), executor=add)
    assert result.stages[0].results == [1, 21, 322]


def test_a_typed_executor_is_given_typed_inputs(model):
    engine = FakeEngine(model(execute=lambda stage, number: f"{number}\n"))
    result = run(engine, Plan.of("a", "b", after={2: (1,)}), executor=Executor(int))
    assert result.stages[0].results == [1, 2]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ({2: (3,)}, r"subtask 1\.2 waits for 1\.3, which the plan does not have: .* 1 to 2"),
        ({2: (0,)}, r"waits for 1\.0, which the plan does not have"),
        ({1: (1,)}, r"wait for each other, 1\.1 for 1\.1: take one of these out of after="),
        ({1: (2,), 2: (1,)}, r"wait for each other, 1\.[12] for 1\.[12] for 1\.[12]"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_before_anything_starts(model, after, message):
    engine = FakeEngine(model())
    with pytest.raises(PolicyError, match=message):
        run(engine, Plan.of("a", "b", after=after))
    assert engine.account().started == 0


def test_a_dependency_of_a_subtask_that_there_is_not_is_refused_at_once():
    with pytest.raises(PolicyError, match="after= has subtask 4 wait, and the plan has 2: number them from 1"):
        Plan.of("a", "b", after={4: (1,)})


class Naming(TagDialect):
    """Tags in which a prompt that begins with numbers waits for them, such as ``1,3: add them``."""

    def read_plan(self, stage, form):
        return NamingReader(self.tags, stage=stage, within="outside" if form == "plan" else form)


class NamingReader(TagPlanReader):
    def feed(self, text):
        return [self._named(item) for item in super().feed(text)]

    def _named(self, item):
        if ":" not in item.prompt:
            return item
        after = tuple(int(number) for number in item.prompt.partition(":")[0].split(","))
        return PromptClosed(item.number, item.prompt, item.end, item.rest, after)


def written(model, *prompts: str, options=None, **more):
    engine = FakeEngine(model(list(prompts), **more), latency=Latency(token=1.0))
    return engine, run_virtual(Sprint(engine, dialect=Naming(load_tags()), **(options or {})).run("question"))


def started(engine: FakeEngine) -> Sequence[str]:
    return [record.request.context.text.rsplit("\n", 2)[-2][11:-1] for record in engine.requests[1:-1]]


def test_dependencies_of_a_written_plan_start_while_it_is_written(model):
    engine, result = written(model, "a", "b", "1: c", "d", "e", "f", "g", "h", "i")
    assert started(engine).index("1.3") < len(started(engine)) - 1
    third = contexts(engine)["<execution_1.3>"].text
    assert third.endswith("1: c</prompt_1.3>\n<execution_1.1>\nresult 1.1\n</execution_1.1>\n<execution_1.3>\n")
    assert result.stages[0].diagnostics == ()


@pytest.mark.parametrize("odd", ["3: b", "2: b", "99: b", "0: b", "-1: b"])
def test_an_odd_dependency_of_a_written_plan_is_a_diagnostic_and_never_waited_for(model, odd):
    engine, result = written(model, "a", odd, "1,2: c")
    (diagnostic,) = result.stages[0].diagnostics
    assert (diagnostic.kind, diagnostic.stage, diagnostic.number) == ("odd_dependency", 1, 2)
    assert "subtask 1.2 waits for" in diagnostic.message
    assert len(result.stages[0].results) == 3
    assert "<execution_1.1>" not in contexts(engine)["<execution_1.2>"].text
    assert "<execution_1.2>\nresult 1.2\n</execution_1.2>\n<execution_1.3>" in contexts(engine)["<execution_1.3>"].text


class TestWhatASubtaskGets:
    """Whatever carries a subtask out gets the results that it waited for, and the failures."""

    plan = Plan.of("one", "two", "three", after={3: (2, 1), 2: (1,)})

    @staticmethod
    def tasks(engine):
        return [record.request.context.text.strip() for record in engine.requests]

    def test_a_sprint(self, model):
        inner = FakeEngine({"": r"<Final_answer>\boxed{7}</Final_answer>"})
        result = run(FakeEngine(model()), self.plan, executor=Sprint(inner, planner=Planner(int)))
        assert result.stages[0].results == [7, 7, 7]
        one, two = "Subtask 1: one\nResult: 7", "Subtask 2: two\nResult: 7"
        assert self.tasks(inner) == ["one", f"two\n\n{one}", f"three\n\n{two}\n\n{one}"]

    def test_a_sprint_after_a_failure(self, model):
        inner = FakeEngine({"": r"<Final_answer>\boxed{7}</Final_answer>"}, faults={1: Fault.drop()})
        result = run(FakeEngine(model()), Plan.of("one", "two", after={2: (1,)}), executor=Sprint(inner))
        assert [execution.succeeded for execution in result.stages[0].executions] == [False, True]
        assert self.tasks(inner)[1].startswith("two\n\nSubtask 1: one\nFailed: EngineUnavailable: the connection")

    def test_a_sprint_whose_model_knows_only_its_own_tasks(self, model):
        manifest = Manifest(
            model="nano", tasks={"multiplication": {"smaller": [1, 9], "larger": [1, 9], "products": [1, 81]}}
        )
        inner = FakeEngine({"": r"<Final_answer>\boxed{7}</Final_answer>"}, manifest=manifest)
        plan = Plan.of("2 * 3", "1 * 6", after={2: (1,)})
        result = run(FakeEngine(model()), plan, executor=Sprint(inner))
        assert result.stages[0].results == ["7", "7"]

    def test_a_sprint_within_a_sprint(self, model):
        inner = FakeEngine({"": r"<Final_answer>\boxed{7}</Final_answer>"})

        async def again(planning):
            stage = yield Plan.of(planning.task)
            yield Answer(value=stage.results[0])

        middle = Sprint(FakeEngine(""), policy=again, executor=Sprint(inner))
        run(FakeEngine(model()), Plan.of("one", "two", after={2: (1,)}), executor=middle)
        assert self.tasks(inner)[1] == "two\n\nSubtask 1: one\nResult: 7"

    def test_a_nested_policy(self, model):
        seen = []

        async def nested(planning):
            seen.append((planning.task, [execution.value for execution in planning.inputs]))
            stage = yield planning.attempt(attempt)
            yield Answer(value=stage.results[0])

        async def attempt(planning):
            seen.append((planning.task, [execution.value for execution in planning.inputs]))
            yield Answer(value=planning.task.upper())

        plan = self.plan.model_copy(update={"nested": nested})
        result = run(FakeEngine(model()), plan)
        assert result.stages[0].results == ["ONE", "TWO", "THREE"]
        expected = [("one", []), ("two", ["ONE"]), ("three", ["TWO", "ONE"])]
        assert seen == [each for each in expected for _ in range(2)]

    def test_an_executor_on_another_engine(self, model):
        small = FakeEngine(model(execute=lambda stage, number: f"{number} small"))
        run(FakeEngine(model()), self.plan, executor=Executor(str, engine=small))
        assert "1 small" in contexts(small)["<execution_1.2>"].text
        assert "2 small" in contexts(small)["<execution_1.3>"].text

    def test_a_function_after_a_failure(self, model):
        def function(subtask):
            if not subtask.inputs:
                raise ValueError("no luck")
            return [execution.failure.message for execution in subtask.inputs if execution.failure]

        result = run(FakeEngine(model()), Plan.of("one", "two", after={2: (1,)}), executor=function)
        assert result.stages[0].results == [["no luck"]]
