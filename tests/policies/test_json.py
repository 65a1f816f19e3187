"""Policies with a model that follows instructions: dependencies and nested plans in its own words."""

import re

import pytest

from sprint_agents.policies import BUILT_IN, dag, spawn_join
from sprint_agents.testing import FakeEngine, Reply


@pytest.fixture
def instructed():
    """A model that answers by who is asked, such as ``executor 1.2``; what is not in the table has a plain result."""

    def make(table):
        rest = {key: [value] if isinstance(value, str | Reply) else list(value) for key, value in table.items()}

        def respond(prompt):
            (asked,) = re.findall(r"(planner, stage \d+|executor \d+\.\d+): ", prompt.text.rpartition("<|user|>")[2])
            if asked in rest:
                return rest[asked].pop(0)
            return '{"answer": "42"}' if asked.startswith("planner") else f'{{"result": "{asked}"}}'

        return respond

    return make


def test_dag_runs_the_dependencies_that_the_model_writes(instructed, run):
    plan = (
        '{"subtasks": [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c", "after": [1]}, {"prompt": "d", "after": [9]}]}'
    )
    engine = FakeEngine(instructed({"planner, stage 1": plan, "executor 1.1": Reply('{"result": "one"}', delay=5)}))
    result = run(engine, policy=dag(), dialect="json")
    assert result.answer == "42"
    stage = result.stages[0]
    assert [execution.value for execution in stage.executions] == [
        "one",
        "executor 1.2",
        "executor 1.3",
        "executor 1.4",
    ]
    assert [(diagnostic.kind, diagnostic.number) for diagnostic in stage.diagnostics] == [("odd_dependency", 4)]
    waiting = next(record for record in engine.requests if "executor 1.3: " in record.request.context.text)
    assert waiting.started == 5
    assert '{"result": "one"}' in waiting.request.context.text


def test_children_spawn(instructed, run):
    engine = FakeEngine(
        instructed(
            {
                "planner, stage 1": '{"subtasks": [{"prompt": "a"}, {"prompt": "b"}]}',
                "executor 1.1": '{"subtasks": [{"prompt": "aa"}, {"prompt": "ab"}]}',
                "planner, stage 3": '{"result": "both"}',
            }
        )
    )
    result = run(engine, policy=spawn_join(depth=1), dialect="json")
    first, second = result.stages[0].executions
    assert (first.value, second.value) == ("both", "executor 1.2")
    assert [execution.value for execution in first.stages[0].executions] == ["executor 2.1", "executor 2.2"]
    assert '{"result": "both"}' in result.transcript
    assert "executor 2.1" not in result.transcript


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_policy_runs_in_json(instructed, run, name):
    result = run(FakeEngine(instructed({})), policy=name, dialect="json")
    assert result.answer == "42"
