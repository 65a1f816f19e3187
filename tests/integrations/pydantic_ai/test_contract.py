"""The engine contract on pydantic-ai's own OpenAI model, against a server that behaves like a model."""

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from sprint_agents.engine import Engine
from sprint_agents.testing.contract import EngineContract
from sprint_integrations.pydantic_ai import PydanticAIEngine
from tests.engines.openai.scripted import served, writes

REPLY = "50 + 25 = 75\nso 75 + 7 = 82, which is 1 too many; "


def in_characters(body: Any) -> list[tuple[int, str]]:
    """Reply with one character per token, depending on the request."""
    start = sum(len(message["content"]) for message in body["messages"]) % len(REPLY)
    limit = body.get("max_tokens") or body["max_completion_tokens"]
    return [(0, character) for character in islice(cycle(REPLY), start, start + limit)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(writes(in_characters, keeps_stops=False, stop_key=None, chat=True)) as server:
        yield server.base


class TestPydanticAI(EngineContract):
    @pytest.fixture(autouse=True)
    def served(self, url: str) -> None:
        self.url = url

    async def make_engine(self) -> Engine:
        model = OpenAIChatModel("tiny", provider=OpenAIProvider(base_url=self.url, api_key="none"))
        return PydanticAIEngine(model)
