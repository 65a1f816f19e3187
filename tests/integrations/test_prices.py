"""What runs cost, by genai-prices."""

from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price

from sprint_agents import Planner, Run, Sprint, Subtask
from sprint_agents.errors import ConfigurationError
from sprint_agents.testing import FakeEngine
from sprint_integrations.prices import cost_of

SCRIPT = {
    "": "<Plan_1>\n<prompt_1.1>6*7</prompt_1.1>\n<prompt_1.2>100/4</prompt_1.2>\n</Plan_1>",
    "<execution_1.1>": "42",
    "<execution_1.2>": "25",
    "</Execution_1>": r"<Final_answer>\boxed{67}</Final_answer>",
}


@pytest.fixture
def run() -> Run[str, str]:
    return Sprint(FakeEngine(SCRIPT)).run_sync("6*7 + 100/4?")


def price(model: str, provider: str, **tokens: int) -> Decimal:
    return calc_price(Usage(**tokens), model, provider_id=provider).total_price


def test_cost_is_that_of_all_requests(run: Run[str, str]) -> None:
    usage = run.usage
    expected = price(
        "gpt-5",
        "openai",
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cached_tokens,
        output_tokens=usage.total_tokens,
    )
    assert usage.cached_tokens > 0
    assert cost_of(run, "openai:gpt-5") == expected == cost_of(run, "gpt-5")


def test_executors_may_have_another_model(run: Run[str, str]) -> None:
    dear, cheap = cost_of(run, "openai:gpt-5"), cost_of(run, "openai:gpt-5-nano")
    assert cheap < cost_of(run, "openai:gpt-5", executor="openai:gpt-5-nano") < dear


def seven(subtask: Subtask) -> int:
    return 7


def test_inner_sprints_count() -> None:
    inner = {"": r"<Final_answer>\boxed{7}</Final_answer>"}
    script = {"": SCRIPT[""], "</Execution_1>": SCRIPT["</Execution_1>"]}
    executor = Sprint(FakeEngine(inner), planner=Planner(int))
    nested = Sprint(FakeEngine(script), executor=executor).run_sync("6*7 + 100/4?")
    flat = Sprint(FakeEngine(script), executor=seven).run_sync("6*7 + 100/4?")
    assert cost_of(nested, "gpt-5") > cost_of(flat, "gpt-5") > 0


@pytest.mark.parametrize("model", ["no-such-model", "openai:no-such-model", "no-such-provider:gpt-5"])
def test_unknown_model_is_named(run: Run[str, str], model: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no price of '{model}'"):
        cost_of(run, model)
