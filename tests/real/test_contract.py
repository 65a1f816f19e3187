import pytest

from sprint_agents.engine import Engine
from sprint_agents.testing.contract import EngineContract

from .conftest import Place


class TestRealEngines(EngineContract):
    @pytest.fixture(autouse=True)
    def made(self, place: Place) -> None:
        self.make = place.make

    async def make_engine(self) -> Engine:
        return self.make()
