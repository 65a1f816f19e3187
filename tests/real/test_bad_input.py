"""Input that cannot work with a real model ends in a typed error that says what to do."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from environments.real.llama_cpp import LlamaCppServer, Options
from sprint_agents import Limits, Sprint
from sprint_agents.engine import Engine
from sprint_agents.engines import LocalEngine, OpenAIEngine
from sprint_agents.engines.openai import SERVERS
from sprint_agents.errors import ContextOverflow, RunError

from .program import LIMITS, TASK, Total, prices

CONTEXT = 128
"""Tokens; the system turn alone is longer."""

SHORT = Limits(stages=3, plan_tokens=40, execution_tokens=40, answer_tokens=40)


async def ask(engine: Engine) -> None:
    async with engine:  # type: ignore[attr-defined]
        await Sprint(engine, limits=LIMITS).run(TASK)


def test_a_context_too_short_for_the_system_turn(gguf: Path, checkpoint: Path) -> None:
    with LlamaCppServer(gguf, Options(context=CONTEXT, slots=1)) as server:
        engines = [
            OpenAIEngine(f"{server.url}/v1", model=server.name, server="llama.cpp"),
            LocalEngine(checkpoint, cache_tokens=CONTEXT),
        ]
        for engine in engines:
            with pytest.raises(ContextOverflow) as raised:
                asyncio.run(ask(engine))
            assert raised.value.limit is not None
            assert raised.value.tokens is not None
            assert raised.value.tokens > raised.value.limit


def test_a_server_without_schemas(llama_cpp: LlamaCppServer) -> None:
    """Nothing holds the model to JSON: it may succeed, and fails with an error of the run otherwise."""
    plain = SERVERS["llama.cpp"].model_copy(update={"schemas": "none"})

    async def main() -> None:
        async with OpenAIEngine(f"{llama_cpp.url}/v1", model=llama_cpp.name, server=plain) as engine:
            assert not engine.capabilities.schemas
            with suppress(RunError):
                assert isinstance((await prices(engine, limits=SHORT).run(TASK)).answer, Total)

    asyncio.run(main())
