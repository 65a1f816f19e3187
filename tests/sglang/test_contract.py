from pathlib import Path

import pytest

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer
from sprint_agents.testing.contract import EngineContract


class TestSGLangEngine(EngineContract):
    long_tokens = 2000
    controls = load_tags().special_tokens

    @pytest.fixture(autouse=True, params=["server", "local"])
    def served(self, request: pytest.FixtureRequest, server: SGLangServer, checkpoint: Path) -> None:
        self.url = server.url
        self.tokenizer = checkpoint if request.param == "local" else None

    async def make_engine(self) -> SGLangEngine:
        return SGLangEngine(self.url, tokenizer=self.tokenizer)
