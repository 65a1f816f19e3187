"""Reasoning models: what they think before their turn is no part of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.dialects.base import JoinedExecution
from sprint_agents.dialects.completions import Result
from sprint_agents.dialects.json.dialect import PLAIN_TURNS, JsonDialect
from sprint_agents.dialects.json.plans import JsonPlanReader
from sprint_agents.engine import ChatTurns
from tests.dialects.texts import chunked

OPEN = PLAIN_TURNS.model_copy(update={"thoughts": "open", "opens": {**PLAIN_TURNS.opens, "assistant": "<a><think>\n"}})
DRAFT = 'Maybe {"answer": 1}, or {"subtasks": ["x"]}? No: {"result": 3}.'


def read(text: str, turns: ChatTurns = PLAIN_TURNS, *, form: str = "plan") -> JsonPlanReader:
    reader = JsonDialect(turns).read_plan(1, form)  # type: ignore[arg-type]
    reader.feed(text)
    reader.close()
    return reader


@pytest.mark.parametrize("form", ["plan", "answer"])
def test_json_in_thoughts_that_the_prompt_opened_is_no_turn(form: str) -> None:
    reader = read(f'{DRAFT}\n</think>\n\n{{"answer": 2}}', OPEN, form=form)
    assert (reader.answer, list(reader.prompts)) == ("2", [])
    assert reader.chain == f"{DRAFT}\n"
    assert reader.diagnostics == []


@pytest.mark.parametrize("turns", [PLAIN_TURNS, OPEN])
@pytest.mark.parametrize("end", ['{"answer": 2}', '{"subtasks": ["a"]}', "", "so"])
def test_an_answer_before_the_end_of_thoughts_is_no_answer(end: str, turns: ChatTurns) -> None:
    """Some servers leave out the mark that opens them."""
    reader = read(f'I would say {{"answer": 1}}.</think>{end}', turns)
    assert reader.answer == ("2" if "answer" in end else None)
    assert [prompt.prompt for prompt in reader.prompts.values()] == (["a"] if "subtasks" in end else [])


def test_thoughts_that_never_end_are_all_there_is() -> None:
    reader = read(DRAFT, OPEN)
    assert (reader.plan, reader.answer, reader.chain) == (None, None, DRAFT)


def test_a_mark_that_is_written_twice_changes_nothing() -> None:
    assert read('<think>\nso</think>{"answer": 2}', OPEN).answer == "2"


@pytest.mark.parametrize("turns", [PLAIN_TURNS, OPEN])
def test_a_result_comes_after_the_thoughts(turns: ChatTurns) -> None:
    turn = JsonDialect(turns).read_turn(1, 1, f'{DRAFT}</think>{{"thoughts": "", "result": "four"}}<|end|>')
    assert isinstance(turn, Result)
    assert turn.text == "four"


THOUGHTFUL = f'{DRAFT}</think>{{"subtasks": ["a", "b"]}}'


@pytest.mark.parametrize("turns", [PLAIN_TURNS, OPEN])
@given(chunks=chunked(st.just(THOUGHTFUL)))
def test_chunks_change_nothing(chunks: list[str], turns: ChatTurns) -> None:
    whole = read(THOUGHTFUL, turns)
    reader = JsonDialect(turns).read_plan(1, "plan")
    for chunk in chunks:
        reader.feed(chunk)
    reader.close()
    assert (reader.prompts, reader.answer, reader.plan) == (whole.prompts, whole.answer, whole.plan)
    if turns is OPEN:
        assert [prompt.prompt for prompt in reader.prompts.values()] == ["a", "b"]


def test_what_no_model_wrote_has_no_thoughts() -> None:
    """A turn that opens in thoughts closes them before a plan of a policy, and before the result of a function."""
    dialect = JsonDialect(OPEN)
    opening = dialect.write_opening(1, "plan")
    assert opening.endswith("<a><think>\n")
    assert dialect.write_plan(1, "", ["a"])[0] == f'{opening}</think>\n\n{{"subtasks": [{{"prompt": "a"}}'
    (joined,) = dialect.write_join(1, [JoinedExecution(1, json.dumps(4))])
    assert '<think>\n</think>\n\n{"result": 4}' in joined
    before, _ = dialect.write_join(1, [JoinedExecution(1, "", generated=True)])
    assert before.endswith("<a><think>\n")


@pytest.mark.parametrize("thoughts", ["none", "may", "open"])
def test_requests_say_whether_thoughts_come_before_the_schema(thoughts: str) -> None:
    dialect = JsonDialect(PLAIN_TURNS.model_copy(update={"thoughts": thoughts}))
    for role in ("plan", "graph", "execution", "answer"):
        assert dialect.constraints(role).thoughts == thoughts
