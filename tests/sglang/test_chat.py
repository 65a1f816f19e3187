"""An instruct checkpoint on a real server: its chat template's ids, and one application on every way into it."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sprint_agents import Executor, Planner
from sprint_agents.context import Context
from sprint_agents.dialects.completions import ToolCalls
from sprint_agents.dialects.json.dialect import JsonDialect
from sprint_agents.engine import Chunk, Engine, Finish, Request, Sampling
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer
from sprint_agents.markup import markup
from sprint_agents.testing.contract import complete, request_of
from sprint_agents.tools import Tool
from tests.application import application, check, look

from .conftest import started

SAID = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How many doors?"},
    {"role": "assistant", "content": '{"result": 1}'},
    {"role": "user", "content": "Look again."},
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from tests.instruct import save_instruct_model

    return save_instruct_model(tmp_path_factory.mktemp("instruct") / "chatml", "chatml")


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[SGLangServer]:
    arguments = ["--enable-cache-report", "--tool-call-parser", "qwen25"]
    with started(checkpoint, *arguments) as server:
        yield server


Make = Callable[..., Engine]


@pytest.fixture
def make(server: SGLangServer, checkpoint: Path) -> Make:
    def engine(kind: str, **options: Any) -> Any:
        if kind == "sglang":
            return SGLangEngine(server.url, **options)
        if kind == "sglang, tokenizer here":
            return SGLangEngine(server.url, tokenizer=checkpoint, **options)
        return OpenAIEngine(f"{server.url}/v1", model=checkpoint.name, server="sglang", **options)

    return engine


class Watched:
    """An engine, the requests that it was given, and how each of them ended, by its id."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.asked: list[Request] = []
        self.finished: dict[str, Finish] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        if request.max_tokens:
            self.asked.append(request)
        async for chunk in self._engine.complete(request):
            if chunk.finish is not None and request.max_tokens:
                self.finished[request.id] = chunk.finish
            yield chunk


@pytest.mark.parametrize("kind", ["sglang", "sglang, tokenizer here", "openai"])
def test_the_application_runs_unchanged(kind: str, make: Make) -> None:
    async def main() -> None:
        async with make(kind) as engine:
            for _ in range(3):
                check(await application(engine).run("How many doors?"))

    asyncio.run(main())


def test_the_servers_template_and_the_checkpoints_are_one(make: Make) -> None:
    async def main() -> None:
        async with make("sglang") as asked, make("sglang, tokenizer here") as read:
            assert asked.capabilities.chat == read.capabilities.chat
            assert asked.capabilities.chat.open("assistant") == "<|im_start|>assistant\n"

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sglang", "sglang, tokenizer here"])
def test_contexts_are_what_the_server_makes_of_the_messages(kind: str, make: Make, server: SGLangServer) -> None:
    async def main() -> None:
        async with make(kind) as engine, httpx2.AsyncClient() as client:
            turns = engine.capabilities.chat
            said = turns.write([(message["role"], message["content"]) for message in SAID])
            ids = await engine.encode(said + turns.open("assistant"))
            body = {"messages": SAID, "add_generation_prompt": True}
            assert ids == (await client.post(f"{server.url}/tokenize", json=body)).json()["tokens"]

    asyncio.run(main())


def test_a_run_asks_for_the_same_prompts_by_both_apis(make: Make) -> None:
    """A server renders the messages to exactly the tokens that the engine with ids writes itself."""

    async def main() -> None:
        async with make("sglang, tokenizer here") as ids, make("openai") as chat:
            watched = Watched(ids)
            await application(watched).run("How many doors?")
            for request in watched.asked[:6]:
                messages = messages_of(request.context.text)
                turns = chat.capabilities.chat
                assert turns is not None
                text = turns.write([(m["role"], m["content"]) for m in messages]) + turns.open("assistant")  # type: ignore[arg-type]
                context = Context().extend(await chat.encode(text), text)
                answer = await complete(chat, request_of(context, max_tokens=1))
                # Drawn tokens need not be those that encoding makes of their text.
                encoded = await ids.encode(markup(request.context.text))
                assert answer.finish.prompt_tokens == len(encoded)

    asyncio.run(main())


def messages_of(text: str) -> list[dict[str, str]]:
    found = []
    # A random model may write the mark itself, amid its words.
    for part in re.split(r"<\|im_start\|>(?=\w+\n)", text.removesuffix("<|im_start|>assistant\n"))[1:]:
        role, _, content = part.partition("\n")
        found.append({"role": role, "content": content.removesuffix("\n").removesuffix("<|im_end|>")})
    return found


def test_one_executor_reads_a_plan_for_the_other(make: Make) -> None:
    async def main() -> None:
        async with make("sglang, tokenizer here") as engine:
            watched = Watched(engine)
            run = await application(watched).run("How many doors are there in all?")
            check(run)
            first, second = watched.asked[:2]
            finished = [watched.finished[request.id] for request in (first, second)]
            assert [finish.prompt_tokens for finish in finished] == [len(first.context), len(second.context)]
            pairs = zip(first.context.flatten(), second.context.flatten(), strict=False)
            shared = next(at for at, (one, other) in enumerate(pairs) if one != other)
            # One executor has read the policy's plan for the other.
            assert max(finish.cached_tokens for finish in finished) >= shared - 1

    asyncio.run(main())


class TestNativeCalls:
    """Native tool calls: the server's grammar holds a random model to a call."""

    @staticmethod
    def asked(engine: Any, text: str, *, may_call: bool = True) -> Request:
        context = Context().extend(list(map(ord, text)), text)
        tools = Executor(str, tools=[look]).brief.tools
        return Request(
            id=f"r-{len(text)}-{may_call}",
            context=context,
            max_tokens=300,
            sampling=Sampling(temperature=1.0),
            tools=tools,
            may_call=may_call,
        )

    def test_come_back_as_calls_and_go_back_with_their_results(self, make: Make) -> None:
        async def main() -> None:
            async with make("openai", tools="native", extra={"tool_choice": "required"}) as engine:
                turns = engine.capabilities.chat
                dialect = JsonDialect(turns).bind(Planner(str).brief, Executor(str, tools=[look]).brief)
                text = dialect.write_task("Look.") + dialect.write_header(1, 1, inputs=True)
                parts = [part async for part in engine.complete(self.asked(engine, text))]
                written = "".join(part.text for part in parts)
                turn = dialect.read_turn(1, 1, written)
                assert isinstance(turn, ToolCalls), written
                assert {call.tool for call in turn.calls} == {"look"}
                tool = Tool.of(look)
                outcomes = [await tool.use(call.arguments, seconds=9) for call in turn.calls]
                assert not any(outcome.failed for outcome in outcomes)
            async with make("openai", tools="native") as engine:
                text += written + dialect.write_feedback("execution", 1, 1, written, outcomes=outcomes)
                finish = [part async for part in engine.complete(self.asked(engine, text))][-1].finish
                assert finish is not None

        asyncio.run(main())

    def test_none_where_none_may_be(self, make: Make) -> None:
        async def main() -> None:
            async with make("openai", tools="native") as engine:
                turns = engine.capabilities.chat
                text = turns.write([("user", "Plan.")]) + turns.open("assistant")
                parts = [part async for part in engine.complete(self.asked(engine, text, may_call=False))]
                assert parts[-1].finish is not None
                assert turns.calls not in "".join(part.text for part in parts)

        asyncio.run(main())
