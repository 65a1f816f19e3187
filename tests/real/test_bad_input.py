"""Input that cannot work with a real model ends in a typed error that says what to do."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from environments.real.llama_cpp import LlamaCppServer, Options
from sprint_agents import Limits, Planner, Run, Sprint
from sprint_agents.engine import Engine
from sprint_agents.engines import LocalEngine, OpenAIEngine, SGLangEngine, SGLangServer
from sprint_agents.engines.openai import SERVERS
from sprint_agents.errors import ConfigurationError, ContextOverflow, EngineRejected, NoChatTemplate
from sprint_agents.events import RunFinished
from sprint_integrations.pydantic_ai import PydanticAIEngine

from .program import LIMITS, TASK, Price, Total, look_up, prices

CONTEXT = 128
"""Tokens; the system turn alone is longer. llama.cpp makes at least 256 of them."""

LONG = Planner(str, instructions="Be very brief. " * 100)

SHORT = Limits(stages=3, plan_tokens=40, execution_tokens=40, answer_tokens=40)


async def ask(engine: Engine, **options: Any) -> None:
    async with engine:  # type: ignore[attr-defined]
        await Sprint(engine, limits=LIMITS, **options).run(TASK)


def asked_through_pydantic_ai(server: LlamaCppServer) -> Engine:
    provider = OpenAIProvider(base_url=f"{server.url}/v1", api_key="none")
    return PydanticAIEngine(OpenAIChatModel(server.name, provider=provider))


@pytest.fixture(scope="module")
def short_server(gguf: Path) -> Iterator[LlamaCppServer]:
    with LlamaCppServer(gguf, Options(context=CONTEXT, slots=1)) as server:
        yield server


@pytest.fixture(scope="session")
def bare(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, without its chat template."""
    directory = tmp_path_factory.mktemp("bare")
    for file in checkpoint.iterdir():
        if file.name not in ("chat_template.jinja", "tokenizer_config.json"):
            (directory / file.name).symlink_to(file.resolve())
    return directory


class TestContextTooShort:
    """A context that cannot hold the system turn."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda server: OpenAIEngine(f"{server.url}/v1", model=server.name, server="llama.cpp"),
            asked_through_pydantic_ai,
        ],
        ids=["llama.cpp", "pydantic-ai"],
    )
    def test_at_a_server(self, make: Callable[[LlamaCppServer], Engine], short_server: LlamaCppServer) -> None:
        overflows(make(short_server), planner=LONG)

    def test_in_process(self, checkpoint: Path) -> None:
        overflows(LocalEngine(checkpoint, cache_tokens=CONTEXT))

    def test_at_sglang(self, sglang: SGLangServer, checkpoint: Path) -> None:
        """The server stays, so the turn is longer than its context."""
        longer = Planner(str, instructions="Be very brief. " * 3000)
        overflows(SGLangEngine(sglang.url, tokenizer=checkpoint), planner=longer)


def overflows(engine: Engine, **options: Any) -> None:
    with pytest.raises(ContextOverflow, match="use a model with a longer context") as raised:
        asyncio.run(ask(engine, **options))
    assert raised.value.tokens > raised.value.limit


class TestWrongModel:
    """Both servers would answer under any name."""

    def test_at_llama_cpp(self, llama_cpp: LlamaCppServer) -> None:
        engine = OpenAIEngine(f"{llama_cpp.url}/v1", model="qwen3:8b", server="llama.cpp")
        with pytest.raises(EngineRejected, match=rf"no model 'qwen3:8b'.*use model='{llama_cpp.name}'"):
            asyncio.run(ask(engine))

    def test_at_sglang(self, sglang: SGLangServer) -> None:
        engine = OpenAIEngine(f"{sglang.url}/v1", model="qwen3:8b", server="sglang")
        with pytest.raises(EngineRejected, match=r"no model 'qwen3:8b'.*use model='"):
            asyncio.run(ask(engine))

    def test_in_process(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="give the folder that holds config"):
            LocalEngine(tmp_path / "qwen3")


class TestNoChatTemplate:
    """Neither a template nor a ``sprint.json`` says how to talk to the model. (llama.cpp has a template for any.)"""

    def test_in_process(self, bare: Path) -> None:
        with pytest.raises(NoChatTemplate, match="give its template with chat="):
            asyncio.run(ask(LocalEngine(bare)))

    def test_at_sglang(self, sglang: SGLangServer, bare: Path) -> None:
        with pytest.raises(NoChatTemplate, match="give its template with chat="):
            asyncio.run(ask(SGLangEngine(sglang.url, tokenizer=bare)))


def test_a_template_without_tools(llama_cpp: LlamaCppServer) -> None:
    engine = OpenAIEngine(f"{llama_cpp.url}/v1", model=llama_cpp.name, server="llama.cpp", tools="native")

    async def main() -> None:
        async with engine:
            await prices(engine, tools=[look_up]).run(TASK)

    with pytest.raises(ConfigurationError, match=r"has no place for tools.*tools='written'"):
        asyncio.run(main())


def test_a_server_without_schemas(llama_cpp: LlamaCppServer) -> None:
    """Nothing holds the model to JSON, but it has read an example. A wrong value is an error of the run."""
    plain = SERVERS["llama.cpp"].model_copy(update={"schemas": "none"})

    async def main() -> Run[Total, Price]:
        async with OpenAIEngine(f"{llama_cpp.url}/v1", model=llama_cpp.name, server=plain) as engine:
            assert not engine.capabilities.schemas
            async with prices(engine, limits=SHORT).stream(TASK) as stream:
                async for event in stream:
                    if isinstance(event, RunFinished):  # if the run failed, its error is in there
                        return event.run
        pytest.fail("the run did not end")

    run = asyncio.run(main())
    assert run.error is not None or isinstance(run.answer, Total)
    assert any(execution.text.lstrip().startswith("{") for execution in run.stages[0].executions)
