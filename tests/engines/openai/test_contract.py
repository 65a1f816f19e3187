"""The engine contract on servers that behave like a model, for each way in which servers treat stops."""

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import pytest

from sprint_agents.engine import Engine
from sprint_agents.engines.openai import OpenAIEngine, ServerName
from sprint_agents.nano import nano_path
from sprint_agents.testing.contract import EngineContract

from .scripted import served, writes

REPLY = "50 + 25 = 75\nso 75 + 7 = 82, which is 1 too many; "


def in_characters(body: Any) -> list[tuple[int, str]]:
    """Reply with one character per token, depending on the request."""
    start = sum(len(message["content"]) for message in body["messages"]) % len(REPLY)
    return [(0, character) for character in islice(cycle(REPLY), start, start + body.get("max_tokens", 400))]


@pytest.fixture(scope="module")
def hosted() -> Iterator[str]:
    with served(writes(in_characters, keeps_stops=False, stop_key=None, chat=True)) as server:
        yield server.base


@pytest.fixture(scope="module")
def vllm() -> Iterator[str]:
    with served(writes(in_characters, keeps_stops=True, stop_key="stop_reason", chat=True)) as server:
        yield server.base


@pytest.fixture(scope="module")
def sglang() -> Iterator[str]:
    with served(writes(in_characters, keeps_stops=True, stop_key="matched_stop", chat=True)) as server:
        yield server.base


class TestChat(EngineContract):
    @pytest.fixture(autouse=True, params=["hosted", "vllm", "sglang"])
    def served(self, request: pytest.FixtureRequest) -> None:
        self.url: str = request.getfixturevalue(request.param)
        self.server: ServerName = "other" if request.param == "hosted" else request.param

    async def make_engine(self) -> OpenAIEngine:
        return OpenAIEngine(self.url, model="tiny", server=self.server)


@pytest.fixture(scope="module")
def in_tokens() -> Iterator[str]:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(nano_path() / "tokenizer.json"))
    ids = tokenizer.encode("50 + 25 = 75\n75 + 7 = 82\n", add_special_tokens=False).ids
    vocabulary = [(token, tokenizer.decode([token], skip_special_tokens=False)) for token in ids]

    def answer(body: Any) -> list[tuple[int, str]]:
        start = (body["prompt"][0] + len(body["prompt"])) % len(vocabulary)  # the next token depends on those before
        return list(islice(cycle(vocabulary), start, start + body["max_tokens"]))

    with served(writes(answer, keeps_stops=True, stop_key="stop_reason", chat=False)) as server:
        yield server.base


class TestCompletions(EngineContract):
    @pytest.fixture(autouse=True)
    def served(self, in_tokens: str) -> None:
        self.url = in_tokens

    async def make_engine(self) -> OpenAIEngine:
        return OpenAIEngine(self.url, model="tiny", api="completions", server="vllm", tokenizer=nano_path())


def test_what_it_is() -> None:
    chat = OpenAIEngine("http://127.0.0.1:1/v1", model="tiny")
    assert isinstance(chat, Engine)
    assert chat.capabilities.chat is not None
    assert chat.capabilities.schemas
    assert not chat.capabilities.native_tools
    # No request for no tokens has a meaning there.
    assert chat.capabilities.caches_running
    assert OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", tools="native").capabilities.native_tools
    assert chat.manifest is None


def test_a_chat_cannot_be_continued() -> None:
    for server in ("openai", "vllm", "sglang"):
        assert not OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", server=server).capabilities.continues
