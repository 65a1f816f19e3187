"""Open the extractor of ``sprint-finetune curate``: rules, or a model on a server with its pace and its budget."""

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any

from sprint_agents.engine import Engine
from sprint_agents.engines.remote import RemoteEngine
from sprint_agents.errors import ConfigurationError, MissingExtra
from sprint_finetune.curation import (
    AnswerRecord,
    CallTokens,
    Extractor,
    LLMExtractor,
    Pace,
    Price,
    RuleExtractor,
    Spending,
)

from .curate_options import CurateOptions


@asynccontextmanager
async def opened_extractor(options: CurateOptions) -> AsyncGenerator[Extractor]:
    """Open the extractor and its engines.

    Raises:
        ConfigurationError: an option is missing, or does not apply to this extractor.
    """
    if options.by == "rules":
        if options.url or options.model or options.dag_model or options.dry_run:
            raise ConfigurationError("rules need no model: pass --by openai or --by sglang with --url and --model")
        yield RuleExtractor()
        return
    engine, dag_engine = _engines(options)
    spending = Spending(
        tokens=options.token_budget, dollars=options.dollar_budget, prices=_prices(options, engine, dag_engine)
    )
    async with AsyncExitStack() as opened:
        record = None
        if not options.dry_run:
            record = opened.enter_context(AnswerRecord(options.out / "completions.jsonl"))
            for one in (engine, dag_engine):
                if one is not None:
                    await opened.enter_async_context(one)
        yield LLMExtractor(
            engine,
            dag_engine=dag_engine,
            max_tokens=options.max_tokens,
            record=record,
            pace=Pace(requests=options.requests_per_minute, tokens=options.tokens_per_minute),
            spending=spending,
        )


def _engines(options: CurateOptions) -> tuple[RemoteEngine[Any], RemoteEngine[Any] | None]:
    """Make the engine for steps, and the one for dependencies if it is another one."""
    if options.url is None:
        raise ConfigurationError(f"--by {options.by} needs the server's address: pass --url")
    if options.by == "sglang":
        from sprint_agents.engines import SGLangEngine

        if options.model or options.dag_model:
            raise ConfigurationError("an SGLang server has only one model: leave out --model and --dag-model")
        return SGLangEngine(options.url), None
    from sprint_agents.engines import OpenAIEngine

    if options.model is None:
        raise ConfigurationError("--by openai needs the model's name: pass --model")
    key = os.environ.get(options.api_key_env)
    # No patience: a refused request passes the pace again, which pauses the others too.
    engine = OpenAIEngine(options.url, model=options.model, api_key=key, patience=0)
    if options.dag_model is None:
        return engine, None
    return engine, OpenAIEngine(options.url, model=options.dag_model, api_key=key, patience=0)


def _prices(options: CurateOptions, engine: Engine, dag_engine: Engine | None) -> Mapping[str, Price]:
    """Return the prices that are known, by the engines' names.

    Raises:
        ConfigurationError: there is a budget in dollars, and a price is unknown.
    """
    found: dict[str, Price] = {}
    models = [(engine, options.model, options.price, "--price")]
    if dag_engine is not None:
        models.append((dag_engine, options.dag_model, options.dag_price, "--dag-price"))
    for one, model, stated, option in models:
        price = stated or (_listed(model, options.url) if model and options.url else None)
        if price is not None:
            found[one.name] = price
        elif options.dollar_budget is not None:
            raise ConfigurationError(
                f"--dollar-budget needs the price of {model or one.name}: pass {option} IN/OUT, in dollars per million "
                "tokens, or install 'sprint-agents[prices]', which knows those of hosted models"
            )
    return found


def _listed(model: str, url: str) -> Price | None:
    """Return the list price of a hosted model, if genai-prices is installed and knows it."""
    try:
        from sprint_integrations.prices import price_of
    except MissingExtra:
        return None

    def price(counts: CallTokens) -> Decimal:
        return price_of(
            model,
            url=url,
            prompt_tokens=counts.prompt,
            cached_tokens=counts.cached,
            generated_tokens=counts.completion,
        )

    try:
        price(CallTokens(1, 1))
    except ConfigurationError:
        return None
    return price
