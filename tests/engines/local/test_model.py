import pytest
import torch

from sprint_agents.engines.local.attention import ForwardBatch
from sprint_agents.engines.local.kv_cache import Geometry, KVCache
from sprint_agents.engines.local.model import Model

pytestmark = pytest.mark.local


@pytest.mark.parametrize(("load", "threads"), [(0.5, [1, 1, 2, 3, 3]), (1000.0, [1] * 5)], ids=["idle", "busy"])
def test_a_step_uses_as_many_threads_as_its_work_pays_for(
    load: float, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load), raising=False)
    used: list[int] = []

    def network(ids: torch.Tensor, positions: object, wanted: object, batch: object) -> torch.Tensor:
        used.append(torch.get_num_threads())
        return ids

    geometry = Geometry(1, 1, 1, 8, torch.float32, torch.device("cpu"))
    model = Model(
        network=network,
        parameters=4_000_000,
        geometry=geometry,
        vocabulary=10,
        context_limit=10,
        end_ids=frozenset(),
    )
    batch = ForwardBatch(KVCache(geometry, 16), [], [])
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for queries in (1, 4, 8, 12, 100):
            ids = torch.zeros(queries, dtype=torch.long)
            model.forward(ids, ids, None, batch)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert used == threads
