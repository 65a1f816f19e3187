import pytest

from sprint_agents.engine import Engine
from sprint_agents.testing.contract import EngineContract

from .conftest import Place


class TestRealEngines(EngineContract):
    prompt = "What is the Great Wall of China?\n"  # of its completion, each token is far likelier than any other

    @pytest.fixture(autouse=True)
    def made(self, place: Place) -> None:
        self.make = place.make
        if not place.exact:
            self.subjects = ("gravity", "Python", "South America", "Albert Einstein", "photosynthesis")

    async def make_engine(self) -> Engine:
        return self.make()
