"""``OpenAIEngine`` on a real server's OpenAI endpoints, with a random model that writes ASCII, a byte a token.

Its chat template adds nothing to a user's turn, so a chat of one turn is the same context as its text alone.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Engine
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer
from sprint_agents.errors import ContextOverflow, EngineUnavailable
from sprint_agents.testing import contract

from .conftest import started
from .counters import Counters

CONTEXT = 1024
PROMPT = contract.EngineContract.prompt
TEMPLATE = (
    "{% for message in messages %}"
    "{{ {'system': '[system]', 'user': '', 'assistant': '[assistant]'}[message.role] + message.content }}"
    "{% endfor %}{% if add_generation_prompt and messages | length > 1 %}[assistant]{% endif %}"
)
Api = Literal["chat", "completions"]


async def drain(stream: AsyncIterator[Chunk]) -> None:
    async for _ in stream:
        pass


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    directory = tmp_path_factory.mktemp("ascii")
    special = ["<|end|>", "<|pad|>"]
    letters = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(letters),
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
        initializer_range=0.3,  # far from uniform: greedy choices are no near ties
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for number, letter in enumerate(letters):
            if len(letter) > 1 or not letter.isascii():
                model.lm_head.weight[number] = 0  # some letter is always likelier
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[SGLangServer]:
    with started(checkpoint, "--enable-cache-report") as server:
        yield server


Make = Callable[..., OpenAIEngine]


@pytest.fixture
def make(server: SGLangServer, checkpoint: Path) -> Make:
    def engine(api: Api, **options: Any) -> OpenAIEngine:
        tokenizer = checkpoint if api == "completions" else None
        return OpenAIEngine(
            f"{server.url}/v1", model=checkpoint.name, api=api, server="sglang", tokenizer=tokenizer, **options
        )

    return engine


@pytest.fixture
def idle(server: SGLangServer) -> Callable[[], AbstractAsyncContextManager[Counters]]:
    """The server's own counters; it must be idle before and after."""

    @asynccontextmanager
    async def watched() -> AsyncGenerator[Counters]:
        async with Counters(server.url) as counters:
            await counters.idle()
            yield counters
            await counters.idle()

    return watched


class TestOpenAIEngine(contract.EngineContract):
    long_tokens = 900

    @pytest.fixture(autouse=True, params=["chat", "completions"])
    def served(self, request: pytest.FixtureRequest, make: Make) -> None:
        self.api, self.make = request.param, make

    async def make_engine(self) -> OpenAIEngine:
        return self.make(self.api)


async def ask(engine: Engine, text: str, **changes: Any) -> contract.Completion:
    context = Context().extend(await engine.encode(text), text)
    return await contract.complete(engine, contract.request_of(context, **changes))


def test_the_same_words_by_every_way_into_the_server(make: Make, server: SGLangServer, checkpoint: Path) -> None:
    async def main() -> None:
        async with (
            make("chat") as chat,
            make("completions") as completions,
            SGLangEngine(server.url, tokenizer=checkpoint) as native,
        ):
            answers = [await ask(engine, PROMPT, max_tokens=64) for engine in (native, completions, chat)]
            assert answers[0].ids == answers[1].ids
            assert len({answer.text for answer in answers}) == 1
            assert answers[0].text.isascii()

    asyncio.run(main())


def test_an_open_turn_is_continued(make: Make) -> None:
    async def main() -> None:
        async with make("chat") as chat, make("completions") as completions:
            turns = chat.capabilities.chat
            assert turns is not None
            said = turns.write([("system", "be brief"), ("user", PROMPT)]) + turns.open("assistant")
            rendered = f"[system]be brief{PROMPT}[assistant]"
            for began in ("", "so 50"):
                assert (await ask(chat, said + began)).text == (await ask(completions, rendered + began)).text

    asyncio.run(main())


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_what_was_read_before_comes_from_the_cache(api: Api, make: Make) -> None:
    async def main() -> None:
        async with make(api) as engine:
            text = f"{api[::-1]} {PROMPT}" * 8  # like no other text from its first letter on
            assert (await ask(engine, text)).finish.cached_tokens == 0
            again = (await ask(engine, text)).finish
            assert (again.prompt_tokens, again.cached_tokens) == (len(text), len(text) - 1)
            assert again.generated_tokens == (contract.COMPLETION_TOKENS if api == "chat" else None)

    asyncio.run(main())


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_completion_is_held_to_its_schema(api: Api, make: Make) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "dog"]}, "lives": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["kind", "lives"],
        "additionalProperties": False,
    }

    async def main() -> None:
        async with make(api) as engine:
            context = Context().extend(await engine.encode(PROMPT), PROMPT)
            request = contract.request_of(context, max_tokens=64)
            answer = await contract.complete(engine, replace(request, schema=json.dumps(schema)))
            found = json.loads(answer.text.removesuffix("<|end|>"))
            assert found["kind"] in ("cat", "dog")
            assert 1 <= found["lives"] <= 9
            assert answer.finish.reason == "stop"

    asyncio.run(main())


@pytest.mark.parametrize("api", ["chat", "completions"])
class TestTheEndOfTheContext:
    def test_ends_a_completion(self, api: Api, make: Make) -> None:
        async def main() -> None:
            async with make(api) as engine:
                answer = await ask(engine, "x" * (CONTEXT - 20), max_tokens=4000)
                assert answer.finish.reason == "length"
                assert 0 < len(answer.ids) <= 20

        asyncio.run(main())

    def test_leaves_no_room_for_more(self, api: Api, make: Make) -> None:
        async def main() -> None:
            async with make(api) as engine:
                with pytest.raises(ContextOverflow) as raised:
                    await ask(engine, "x" * (CONTEXT + 5))
                assert (raised.value.tokens, raised.value.limit) == (CONTEXT + 5, CONTEXT)

        asyncio.run(main())


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_nothing_runs_on_when_a_request_is_left(
    api: Api, make: Make, idle: Callable[[], AbstractAsyncContextManager[Counters]]
) -> None:
    async def main() -> None:
        async with idle(), make(api) as engine:
            context = Context().extend(await engine.encode(PROMPT), PROMPT)

            def started(name: str) -> AsyncGenerator[Any]:
                return engine.complete(contract.request_of(context, max_tokens=900, request_id=name))

            closed, aborted = started("closed"), started("aborted")
            await anext(closed)
            await closed.aclose()
            await anext(aborted)
            await engine.abort("aborted")
            with pytest.raises(EngineUnavailable, match="aborted"):
                await drain(aborted)
            cancelled = asyncio.create_task(drain(started("cancelled")))
            left = started("left")
            await anext(left)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)

    asyncio.run(main())
