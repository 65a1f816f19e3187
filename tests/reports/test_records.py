"""Records of runs survive: as JSON, by pickle and in journals, whatever the types of results and answers are."""

import copy
import json
import multiprocessing
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    computed_field,
    field_serializer,
)
from pydantic.alias_generators import to_camel

from sprint_agents import Executor, Plan, Planner, Run, Sprint, errors
from sprint_agents.testing import FakeEngine, Fault, Reply

PLAN = "<Plan_1>\n<prompt_1.1>one</prompt_1.1><prompt_1.2>two</prompt_1.2></Plan_1>"
PARAMETERS = r"(?<=Run|age|ion)\[.*?\]\("


class Aliased(BaseModel):
    from_: str = Field(alias="from")


class ValidationAliased(BaseModel):
    name: str = Field(validation_alias=AliasChoices("title", "label"))


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    first_name: str


class Excluded(BaseModel):
    shown: int
    hidden: int = Field(exclude=True)


class Serialised(BaseModel):
    day: date

    @field_serializer("day")
    def _as_words(self, day: date) -> str:
        return day.strftime("%d/%m/%Y")


class Login(BaseModel):
    user: str
    password: SecretStr


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    day: date
    numbers: tuple[int, ...]


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int

    @computed_field
    @property
    def double(self) -> int:
        return 2 * self.number


class Identified(BaseModel):
    name: str
    id: UUID = Field(default_factory=uuid4)


class Blob(BaseModel):
    content: Base64Bytes


class Measured(BaseModel):
    value: float


class Colour(Enum):
    RED = "red"


@dataclass
class Doubled:
    number: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.number


SITUATIONS = [
    pytest.param(kind, text, id=f"{getattr(kind, '__name__', kind)}-{text}", marks=pytest.mark.reported(*links))
    for kind, text, *links in [
        (Aliased, '{"from": "Oslo"}', "pydantic/pydantic#10824", "langchain-ai/langgraph#6718"),
        (ValidationAliased, '{"label": "a"}', "pydantic/pydantic#10824", "langchain-ai/langgraph#7066"),
        (Camel, '{"firstName": "Ada"}', "pydantic/pydantic#10824"),
        (list[Aliased], '[{"from": "Oslo"}, {"from": "Rome"}]', "pydantic/pydantic#10824"),
        (Excluded, '{"shown": 1, "hidden": 2}', "pydantic/pydantic#10824"),
        (Serialised, '{"day": "2026-11-30"}', "pydantic/pydantic#10824"),
        (float, "NaN", "pydantic/pydantic#7007", "pasteurlabs/tesseract-core#708"),
        (float, "1e999", "pydantic/pydantic#7007"),
        (Measured, '{"value": -Infinity}', "pydantic/pydantic#7007"),
        (Login, '{"user": "a", "password": "hunter2"}', "langchain-ai/langgraph#1873"),
        (SecretStr, '"hunter2"', "OpenHands/software-agent-sdk#1671"),
        (Base64Bytes, '"YWJj/w=="', "pydantic/pydantic#7007"),
        (Blob, '{"content": "/w=="}', "pydantic/pydantic#7007"),
        (Strict, '{"day": "2026-11-30", "numbers": [1]}', "langchain-ai/langgraph#9021"),
        (Computed, '{"number": 4}', "langchain-ai/langgraph#9021"),
        (Identified, '{"name": "a"}', "langchain-ai/langgraph#9021"),
        (dict[int, float], '{"1": NaN}', "pydantic/pydantic#7007"),
        (Doubled, '{"number": 4}', "langchain-ai/langgraph#9021"),
        (Colour, "red", "langchain-ai/langgraph#9021"),
        (Decimal, "0.10", "langchain-ai/langgraph#9021"),
        (tuple[int, ...], "[1, 2]", "langchain-ai/langgraph#9021"),
        (frozenset[int], "[1, 2]", "langchain-ai/langgraph#9021"),
        (Literal["yes", "no"], "yes", "langchain-ai/langgraph#9021"),
        (int | str, "42", "langchain-ai/langgraph#9021"),
        (int | None, "null", "langchain-ai/langgraph#9021"),
        (Annotated[int, AfterValidator(lambda number: number + 1)], "41", "langchain-ai/langgraph#9021"),
        (dict[str, Any], '{"a": [1, null]}', "langchain-ai/langgraph#9021"),
        (str, "42", "langchain-ai/langgraph#9021"),
    ]
]


def engine_for(text: str) -> FakeEngine:
    return FakeEngine({"": PLAN, "<execution_1.": text, "</Execution_1>": f"<Final_answer>{text}</Final_answer>"})


def run_of(kind: Any, text: str) -> Run[Any, Any]:
    return Sprint(engine_for(text), planner=Planner(kind), executor=Executor(kind)).run_sync("question")


def contents(run: Run[Any, Any]) -> str:
    """Everything in a run, comparable even where it holds NaN; secrets are revealed."""
    values = [run.answer, *(result for stage in run.stages for result in stage.results)]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    secrets += [value.password.get_secret_value() for value in values if isinstance(value, Login)]
    run = run.model_copy(update={"origin": run.origin and run.origin.astimezone(UTC)})
    return f"{re.sub(PARAMETERS, '(', repr(run))} {secrets}"


@pytest.mark.parametrize(("kind", "text"), SITUATIONS)
def test_a_run_survives_json(kind: Any, text: str) -> None:
    run = run_of(kind, text)
    back = Run[kind, kind].model_validate_json(run.model_dump_json())
    assert contents(back) == contents(run)
    assert contents(Run[kind, kind].model_validate(run.model_dump(mode="json"))) == contents(run)
    assert contents(Run[kind, kind].model_validate_json(back.model_dump_json())) == contents(run)


@pytest.mark.parametrize(("kind", "text"), [case for case in SITUATIONS if "Annotated" not in str(case.id)])
def test_a_run_survives_pickle(kind: Any, text: str) -> None:
    run = run_of(kind, text)
    back = pickle.loads(pickle.dumps(run))
    assert type(back) is type(run)
    assert contents(back) == contents(run)
    typed = Run[kind, kind].model_validate_json(run.model_dump_json())
    again = pickle.loads(pickle.dumps(typed))
    assert type(again) is type(typed)
    assert contents(again) == contents(run)


def solve(task: str) -> Run[int, int]:
    engine = FakeEngine(Reply("", fault=Fault.drop())) if task == "fail" else engine_for("4")
    return Sprint(engine, planner=Planner(int), executor=Executor(int)).run_sync(task)


@pytest.mark.reported("pydantic/pydantic#7503", "pydantic/pydantic#8913", "ray-project/ray#54341")
def test_runs_and_errors_leave_worker_processes() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        run = pool.submit(solve, "question").result()
        assert (run.answer, run.stages[0].results) == (4, [4, 4])
        with pytest.raises(errors.EngineUnavailable) as caught:
            pool.submit(solve, "fail").result()
    assert caught.value.run is not None
    assert caught.value.run.task == "fail"


def every_error() -> list[errors.SprintError]:
    special = {
        errors.MissingExtra: errors.MissingExtra("local", "torch"),
        errors.EngineOverloaded: errors.EngineOverloaded("busy", retry_after=2.5),
        errors.ContextOverflow: errors.ContextOverflow(tokens=9, limit=8),
        errors.PlanPaused: errors.PlanPaused("plan 1 waits", plan=Plan.of("one")),
        errors.InvalidResult: errors.InvalidResult("no number", text="x", reason="it is no int"),
    }
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SprintError)]
    return [special.get(kind) or kind("a message") for kind in kinds]


@pytest.mark.reported("ray-project/ray#54341", "ray-project/llm-applications#91", "lancedb/lancedb#3447")
@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_error_survives_copies(error: errors.SprintError, copied: Any) -> None:
    error.run = run_of(int, "4")
    error.add_note("a note")
    back = copied(error)
    assert type(back) is type(error)
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("stages", ["abc", [1], [{}], [{"answer": 1}], None, {"a": 1}])
def test_what_is_no_run_is_a_validation_error(stages: object) -> None:
    content = run_of(int, "4").model_dump(mode="json") | {"stages": stages}
    with pytest.raises(ValidationError):
        Run[int, int].model_validate_json(json.dumps(content))
