"""The example conversation for models that no schema holds to the form."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter

from sprint_agents import Capabilities, Executor, Planner, Sprint
from sprint_agents.dialects import choose_dialect
from sprint_agents.dialects.base import AgentBrief
from sprint_agents.dialects.completions import Result
from sprint_agents.dialects.json.dialect import PLAIN_TURNS, JsonDialect
from sprint_agents.dialects.json.example import example_of
from sprint_agents.dialects.json.shape import PLACEHOLDER
from sprint_agents.testing import FakeEngine

TEXT = "The letters of zebra are counted."


class City(BaseModel):
    name: str
    people: int = Field(ge=0)
    capital: bool
    districts: list[str]


class Small(BaseModel):
    grade: int = Field(ge=1, le=6)
    passed: bool


def schema_of(declared: Any) -> str | None:
    return None if declared is str else json.dumps(TypeAdapter(declared).json_schema())


def dialect(answer: Any = str, result: Any = str, *, example: bool = True) -> JsonDialect:
    agents = (AgentBrief(schema=schema_of(declared)) for declared in (answer, result))
    return JsonDialect(example=example).bind(*agents)


@pytest.mark.parametrize(
    "declared",
    [str, int, float, City, list[City], None | City, Annotated[int, Field(lt=500, ge=100)]],
)
def test_the_value_is_of_the_declared_type(declared: Any) -> None:
    values = [example_of(schema_of(declared), TEXT, index) for index in range(3)]
    for value in values:
        TypeAdapter(declared).validate_json(value)


@pytest.mark.parametrize(
    "declared",
    [
        bool,
        Literal["yes", "no"],
        Small,
        AwareDatetime,
        Annotated[str, Field(pattern="^[a-z]+$")],
        Annotated[str, Field(max_length=3)],
        list[list[list[list[list[list[list[int]]]]]]],
    ],
)
def test_a_type_whose_values_are_all_plausible_has_a_placeholder(declared: Any) -> None:
    assert example_of(schema_of(declared), TEXT) == PLACEHOLDER


def test_the_model_reads_it_before_the_task() -> None:
    question = dialect(int, City).write_task("Add up.")
    assert question.startswith(JsonDialect().bind(AgentBrief(), AgentBrief()).write_task("")[:40])
    assert question.endswith("<|user|>\nAdd up.<|end|>\n")
    assert '"subtasks": [{"prompt": "Count the letters of zebra."}' in question
    assert '"result": {"name": "The letters of zebra are counted.", "people": 3120457, ' in question
    assert '"result": {"name": "The letters of walrus are counted.", "people": 1750862, ' in question
    assert '{"thoughts": "All letters are counted.", "answer": 4871319}' in question
    assert "zebra" not in dialect(int, City, example=False).write_task("Add up.")


@pytest.mark.parametrize("answer", [str, int, City, bool])
def test_an_answer_copied_from_it_is_none(answer: Any) -> None:
    value = example_of(schema_of(answer), "All letters are counted.", 2)
    read = dialect(answer).read_plan(1, "plan")
    read.feed(f'{{"thoughts": "so", "answer": {value}}}')
    read.close()
    assert read.answer is None
    assert read.diagnostics[0].kind == "placeholder"


@pytest.mark.parametrize("result", [str, int, City, bool])
def test_a_result_copied_from_it_is_a_fault(result: Any) -> None:
    value = example_of(schema_of(result), TEXT)
    turn = dialect(str, result).read_turn(1, 1, f'{{"thoughts": "so", "result": {value}}}')
    assert isinstance(turn, Result)
    assert turn.fault
    plain = JsonDialect().bind(AgentBrief(), AgentBrief(schema=schema_of(result)))
    turn = plain.read_turn(1, 1, f'{{"thoughts": "so", "result": {value}}}')
    assert isinstance(turn, Result)
    assert bool(turn.fault) is (value == PLACEHOLDER)


def test_a_prompt_copied_from_it_starts_no_subtask() -> None:
    read = dialect().read_plan(1, "plan")
    prompts = ("Count the letters of zebra.", "Count the letters of horse.")
    found = read.feed(json.dumps({"thoughts": "", "subtasks": [{"prompt": prompt} for prompt in prompts]}))
    assert [prompt.number for prompt in found] == [2]
    assert [fault.kind for fault in read.diagnostics] == ["copied_prompt"]


def test_speakers_take_turns_where_a_template_wants_it() -> None:
    turns = PLAIN_TURNS.model_copy(update={"alternate": True})
    question = JsonDialect(turns, example=True).bind(AgentBrief(), AgentBrief()).write_task("Add up.")
    opening = JsonDialect(turns, example=True).write_opening(1, "plan")
    speakers = [part.partition("|>")[0] for part in (question + opening).split("<|")[1:] if not part.startswith("end")]
    assert speakers == ["system", *["user", "assistant"] * (len(speakers) // 2)]


@pytest.mark.parametrize("schemas", [True, False])
def test_it_is_for_engines_without_schemas(schemas: bool) -> None:
    engine = FakeEngine("", capabilities=Capabilities(chat=PLAIN_TURNS, schemas=schemas))
    chosen = choose_dialect(None, engine)
    assert isinstance(chosen, JsonDialect)
    assert chosen.example is not schemas


def test_a_model_that_copies_all_of_it_is_corrected() -> None:
    replies = {
        "planner, stage 1": '{"thoughts": "", "answer": 4871319}',
        "planner, stage 2": '{"thoughts": "", "subtasks": [{"prompt": "count"}, {"prompt": "recount"}]}',
        "executor 2.1: carry out": '{"thoughts": "", "result": 4871319}',
        "executor 2.1: that is no valid result": '{"thoughts": "", "result": 3}',
        "executor 2.2": '{"thoughts": "", "result": 4}',
        "planner, stage 3": '{"thoughts": "", "answer": 7}',
    }
    engine = FakeEngine(replies, capabilities=Capabilities(chat=PLAIN_TURNS))
    run = Sprint(engine, planner=Planner(int), executor=Executor(int)).run_sync("Count all.")
    assert run.answer == 7
    assert run.stages[1].results == [3, 4]
