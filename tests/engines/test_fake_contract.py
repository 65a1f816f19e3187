from collections.abc import Coroutine
from typing import Any

import pytest

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.testing import FakeEngine, Latency, run_virtual
from sprint_agents.testing.contract import EngineContract

REPLY = "50 + 25 = 75\n75 + 7 = 82\n" * 40


class TestFakeEngine(EngineContract):
    @pytest.fixture(autouse=True, params=[None, 1, 3])
    def chunks(self, request: pytest.FixtureRequest) -> None:
        self.chunk_tokens = request.param
        self.controls = load_tags().special_tokens

    async def make_engine(self) -> FakeEngine:
        return FakeEngine(REPLY, chunk_tokens=self.chunk_tokens)


class TestInVirtualTime(EngineContract):
    async def make_engine(self) -> FakeEngine:
        return FakeEngine(REPLY, latency=Latency(request=1, prompt_token=0.1, token=1))

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        return run_virtual(main)
