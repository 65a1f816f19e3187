import pytest

from sprint_agents.testing import FakeEngine, Latency, run_virtual
from tests.engines import contract

REPLY = "50 + 25 = 75\n75 + 7 = 82\n" * 40


@pytest.mark.parametrize("check", contract.CHECKS, ids=contract.name_of)
@pytest.mark.parametrize("chunk_tokens", [None, 1, 3])
def test_it_keeps_the_contract(check, chunk_tokens: int | None) -> None:
    async def make() -> FakeEngine:
        return FakeEngine(REPLY, chunk_tokens=chunk_tokens)

    check(contract.Subject(make))


@pytest.mark.parametrize("check", contract.CHECKS, ids=contract.name_of)
def test_it_keeps_the_contract_in_virtual_time(check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncio.run", run_virtual)

    async def make() -> FakeEngine:
        return FakeEngine(REPLY, latency=Latency(request=1, prompt_token=0.1, token=1))

    check(contract.Subject(make))
