"""What a run costs in money, by the price lists of genai-prices."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
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


def price_of(
    model: str,
    *,
    prompt_tokens: int,
    generated_tokens: int,
    cached_tokens: int = 0,
    url: str | None = None,
    at: datetime | None = None,
) -> Decimal:
    """Return the price of one request in US dollars, by the list prices of ``model`` at a time, now by default.

    ``url`` is the address of the provider, if the model's name does not begin with one. ``cached_tokens`` are a part of
    the ``prompt_tokens``.

    >>> price_of("gpt-5", url="https://api.openai.com/v1", prompt_tokens=1_000, generated_tokens=100)
    Decimal('0.00225')

    Raises:
        ConfigurationError: genai-prices knows no such model or provider.
    """
    tokens = Usage(input_tokens=prompt_tokens, cache_read_tokens=cached_tokens, output_tokens=generated_tokens)
    provider, colon, name = model.partition(":")
    at = at or datetime.now(UTC)
    try:
        if url is not None:
            found = calc_price(tokens, model, provider_api_url=url, genai_request_timestamp=at)
        elif colon:
            found = calc_price(tokens, name, provider_id=provider, genai_request_timestamp=at)
        else:
            found = calc_price(tokens, model, genai_request_timestamp=at)
    except LookupError as error:
        where = f" at {url}" if url else ""
        raise ConfigurationError(
            f"genai-prices has no price of {model!r}{where}: give the model's full name, with its provider, such as "
            "openai:gpt-5"
        ) from error
    return found.total_price


def _price(usage: CallUsage, model: str, run: Run[Any, Any]) -> Decimal:
    return price_of(
        model,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        generated_tokens=usage.generated_tokens,
        at=run.origin,
    )


def _calls(stages: Sequence[Stage[Any]]) -> Iterator[EngineCall]:
    """List the calls of stages and of what is nested in them."""
    for stage in stages:
        yield from stage.calls
        for execution in stage.executions:
            yield from execution.calls
            yield from _calls(execution.stages)
