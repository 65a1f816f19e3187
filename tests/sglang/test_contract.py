from collections.abc import Callable
from pathlib import Path

import pytest

from sprint_agents.engines.sglang import SGLangEngine, SGLangServer
from tests.engines import contract


@pytest.mark.parametrize("tokenizer", ["server", "local"])
@pytest.mark.parametrize("check", contract.CHECKS, ids=contract.name_of)
def test_it_keeps_the_contract(
    check: Callable[[contract.Subject], None], tokenizer: str, server: SGLangServer, checkpoint: Path
) -> None:
    async def make() -> SGLangEngine:
        return SGLangEngine(server.url, tokenizer=checkpoint if tokenizer == "local" else None)

    check(contract.Subject(make, long=2000))
