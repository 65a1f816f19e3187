"""What a run costs in money, by the price lists of genai-prices."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from sprint_agents.errors import ConfigurationError, MissingExtra
from sprint_agents.plan import Stage
from sprint_agents.run import Run
from sprint_agents.usage import CallUsage, EngineCall

try:
    from genai_prices import Usage, calc_price
except ImportError as error:
    raise MissingExtra("prices", "genai_prices") from error


def cost_of(run: Run[Any, Any], model: str, *, executor: str | None = None) -> Decimal:
    r"""Return the cost of a run in US dollars, by the list prices of ``model`` when the run started.

    ``model`` is a model's name, such as ``gpt-5``, or a provider's and the model's, such as ``openai:gpt-5``.
    ``executor`` is the model of the executors, if they have another one. Each request is priced by itself, because some
    models cost more beyond a number of tokens. Tokens that a cache served have their own price. Prices for writing into
    a cache, of tools and of servers by the hour are not included.

    >>> from sprint_agents import Sprint
    >>> from sprint_agents.testing import FakeEngine
    >>> run = Sprint(FakeEngine(r"<Final_answer>\boxed{42}</Final_answer>")).run_sync("What is 6*7?")
    >>> run.usage.prompt_tokens, run.usage.total_tokens, cost_of(run, "openai:gpt-5")
    (7, 7, Decimal('0.00007875'))

    Raises:
        ConfigurationError: genai-prices knows no such model or provider.
    """
    total = Decimal(0)
    for call in _calls(run.stages):
        name = executor if executor is not None and call.role == "execution" else model
        total += _price(call.usage, name, run)
    return total


def _price(usage: CallUsage, model: str, run: Run[Any, Any]) -> Decimal:
    provider, colon, name = model.partition(":")
    if not colon:
        provider, name = None, model
    tokens = Usage(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cached_tokens,
        output_tokens=usage.generated_tokens,
    )
    try:
        return calc_price(tokens, name, provider_id=provider, genai_request_timestamp=run.origin).total_price
    except LookupError as error:
        raise ConfigurationError(
            f"genai-prices has no price of {model!r}: give the model's full name, with its provider, such as "
            "openai:gpt-5"
        ) from error


def _calls(stages: Sequence[Stage[Any]]) -> Iterator[EngineCall]:
    """List the calls of stages and of what is nested in them."""
    for stage in stages:
        yield from stage.calls
        for execution in stage.executions:
            yield from execution.calls
            yield from _calls(execution.stages)
