from pathlib import Path

import pytest

from sprint_agents.engines.local import LocalEngine
from sprint_agents.testing.contract import EngineContract

pytestmark = pytest.mark.local


class TestLocalEngine(EngineContract):
    @pytest.fixture(autouse=True)
    def written(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.controls = ("</stop_", "<go>")

    async def make_engine(self) -> LocalEngine:
        return LocalEngine(self.checkpoint, threads=1)
