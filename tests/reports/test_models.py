"""Reports of what models write in place of the declared type."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from sprint_agents import Executor, Planner, Sprint
from sprint_agents.testing import FakeEngine


class Page(BaseModel):
    title: str
    size: int = 1


PAGE = {"title": "Home", "size": 2}


@pytest.mark.reported("pydantic/pydantic-ai#5259")
@pytest.mark.reported("pydantic/pydantic-ai#2836")
@pytest.mark.reported("567-labs/instructor#1616")
@pytest.mark.reported("MoonshotAI/kimi-cli#2572")
@pytest.mark.parametrize(
    "value",
    [
        json.dumps(PAGE),
        {"result": PAGE},
        {"answer": PAGE},
        {"result": {"result": PAGE}},
        {"result": json.dumps(PAGE)},
        json.dumps({"result": json.dumps(PAGE)}),
    ],
    ids=str,
)
def test_a_value_in_a_string_or_wrapped_twice_is_unwrapped(value: Any) -> None:
    written = {"planner": '{"subtasks": ["look"]}', "executor": json.dumps({"result": value})}
    written["planner, stage 2"] = json.dumps({"answer": value})
    engine = FakeEngine(written)
    run = Sprint(engine, dialect="json", planner=Planner(Page), executor=Executor(Page)).run_sync("Which page?")
    assert run.stages[0].results == [Page(title="Home", size=2)]
    assert run.answer == Page(title="Home", size=2)
    assert engine.account().started == 3  # nothing had to be corrected


@pytest.mark.reported("pydantic/pydantic-ai#5259")
@pytest.mark.parametrize(
    ("declared", "value"),
    [(dict[str, Any], {"result": 1}), (str, '{"title": "Home"}'), (list[str], ["[1]"]), (Any, "1")],
)
def test_a_value_that_the_type_takes_stays_as_it_is(declared: Any, value: Any) -> None:
    engine = FakeEngine(json.dumps({"answer": value}))
    assert Sprint(engine, dialect="json", planner=Planner(declared)).run_sync("What?").answer == value


@pytest.mark.reported("pydantic/pydantic-ai#5259")
def test_an_object_under_any_other_key_is_no_value() -> None:
    """``{"error": 404}`` is no number."""
    engine = FakeEngine(['{"answer": {"error": 404}}', '{"answer": 4}'])
    assert Sprint(engine, dialect="json", planner=Planner(int)).run_sync("What?").answer == 4
