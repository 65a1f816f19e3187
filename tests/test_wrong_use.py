"""Common mistakes: each message names the mistake and the remedy."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sprint_agents import Answer, Executor, Plan, Planner, Sprint, State
from sprint_agents.dialects.json.dialect import JsonDialect
from sprint_agents.engines.openai import OpenAIEngine, Server
from sprint_agents.errors import ConfigurationError, PolicyError, SprintError
from sprint_agents.testing import FakeEngine


async def yields_words(planning):
    yield "look left"


async def yields_prompts(planning):
    yield ["look left", "look right"]


async def yields_nothing(planning):
    yield


async def forgets_to_answer(planning):
    yield Plan.of("look left")


async def does_not_yield(planning):
    return Answer(value="1")


def is_not_async(planning):
    yield Plan.of("look left")


async def waits_for_nobody(planning):
    yield Plan.of("look left", "look right", after={2: [3]})


async def waits_in_a_circle(planning):
    yield Plan.of("look left", "look right", after={1: [2], 2: [1]})


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (yields_words, r"a policy yields a Plan, an Answer, or what planning\.ask.*, not 'look left'"),
        (yields_prompts, r"a policy yields a Plan.*not \['look left', 'look right'\]"),
        (yields_nothing, r"a policy yields a Plan.*not None"),
        (forgets_to_answer, r"ended without an answer: yield Answer\(value=…\) last"),
        (
            lambda planning: does_not_yield(planning),
            r"async generator function.*returned coroutine: write",
        ),
        (lambda planning: is_not_async(planning), r"async generator function.*returned generator"),
        (waits_for_nobody, r"subtask 1\.2 waits for 1\.3, which the plan does not have: .* 1 to 2"),
        (waits_in_a_circle, r"wait for each other, 1\.\d for 1\.\d for 1\.\d: take one of these out of after="),
    ],
)
def test_a_policy_that_is_none(policy: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Sprint(FakeEngine("a door"), policy=policy).run_sync("Look around.")


class Door:
    """A class that pydantic has no schema for."""


def no_annotation(side) -> str:
    return side


def unknown_type(side: Door) -> str:
    return str(side)


def any_number(*sides: str) -> str:
    return sides[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Executor(Door), "Door cannot be a result.*Use a pydantic model, a dataclass or a plain type"),
        (lambda: Planner(Callable[[], int]), "holds what JSON cannot.*use pydantic models, dataclasses, and plain"),
        (lambda: Executor(threading.Lock), "cannot be a result"),
        (
            lambda: Executor(tools=[no_annotation]),
            "'side' of tool 'no_annotation' has no annotation.*write",
        ),
        (
            lambda: Executor(tools=[unknown_type]),
            "tool 'unknown_type' has a type that models cannot write",
        ),
        (lambda: Executor(tools=[any_number]), "'sides' of tool 'any_number' is variadic.*declare each on its own"),
        (lambda: Executor(tools=[lambda: 1]), "is no name for a tool: .*Tool.of"),
    ],
)
def test_what_cannot_be_told_to_a_model(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


class TestConstrainedJson:
    def test_asked_of_an_engine_that_has_none(self) -> None:
        async def main() -> None:
            async with FakeEngine("{}") as engine:
                state = State(engine)
                await state.append("x")
                await state.generate(max_tokens=9, schema='{"type": "object"}')

        with pytest.raises(
            ConfigurationError, match=r"holds no completion to one: ask only where Engine\.capabilities\.schemas"
        ):
            asyncio.run(main())

    def test_asked_of_a_server_that_takes_no_schema(self) -> None:
        async def main() -> None:
            async with OpenAIEngine("http://127.0.0.1:1/v1", model="m", server=Server(schemas="none")) as engine:
                state = State(engine)
                await state.append("x")
                await state.generate(max_tokens=9, schema='{"type": "object"}')

        with pytest.raises(
            ConfigurationError, match=r"takes no JSON schema: ask only where Engine\.capabilities\.schemas"
        ):
            asyncio.run(main())

    def test_strict_schemas_that_cannot_be_had(self) -> None:
        engine = OpenAIEngine("http://127.0.0.1:1/v1", model="m", strict=True)
        for agent in ({"planner": Planner(dict[str, int])}, {"executor": Executor(tuple[int, str])}):
            with pytest.raises(ConfigurationError, match=r"strict mode cannot express.*Declare its fields"):
                Sprint(engine, **agent).run_sync("Count.")


def test_tools_between_tags() -> None:
    def look(side: str) -> str:
        """Look."""
        return side

    with pytest.raises(ConfigurationError, match="json"):
        Sprint(FakeEngine(""), executor=Executor(tools=[look]))


def test_an_unknown_dialect() -> None:
    with pytest.raises(
        ConfigurationError, match="dialect= of Sprint is 'yaml': pass a Dialect, 'tags', 'json' or None"
    ):
        Sprint(FakeEngine(""), dialect="yaml").run_sync("Look.")  # type: ignore[arg-type]


def test_running_inside_a_loop() -> None:
    async def main() -> None:
        Sprint(FakeEngine(""), dialect=JsonDialect()).run_sync("Look.")

    with pytest.raises(SprintError, match=r"use `await sprint\.run\(task\)`"):
        asyncio.run(main())
