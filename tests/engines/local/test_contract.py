import pytest

from sprint_agents.engines.local import LocalEngine
from tests.engines import contract

pytestmark = pytest.mark.local


@pytest.mark.parametrize("check", contract.CHECKS, ids=contract.name_of)
def test_it_keeps_the_contract(check, make_engine) -> None:
    async def make() -> LocalEngine:
        return make_engine()

    check(contract.Subject(make))
